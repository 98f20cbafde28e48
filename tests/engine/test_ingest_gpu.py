"""nvJPEG itself: the same pictures as libjpeg-turbo's, and the same answers to those that are damaged."""

import numpy as np
import pytest
import torch

from support.frames import encode, photo
from tilestream.engine.ingest import Ingest
from tilestream.engine.ingest.nvjpeg import find_decoder
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import decode_picture
from tilestream.media.jpeg_header import read_header
from tilestream.media.jpeg_plain import is_plain
from tilestream.messages import Failure, Picture

CUDA = torch.device("cuda")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
SAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111, "411": 0x411111}


@pytest.fixture(scope="module")
def ingest():
    decoder = find_decoder(CUDA)
    if decoder is None:
        pytest.skip("no torchvision with nvJPEG here")
    return Ingest(CUDA, decoder)


def picture(data, compute=None):
    header = read_header(data)
    return Picture(header.width, header.height, compute or (header.width, header.height), data=data)


def difference(tensor, each):
    found = tensor.permute(1, 2, 0).cpu().numpy().astype(int)
    return np.abs(found - decode_picture(each).pixels).mean()


@pytest.mark.parametrize("size", [(1280, 720), (203, 117), (64, 48), (17, 9)])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_pictures_are_those_of_the_host(ingest, sampling, size):
    each = picture(encode(photo(*size), sampling=SAMPLINGS[sampling]))
    (tensor,) = ingest.decode([each])
    assert tensor.device.type == "cuda" and tensor.shape == (3, size[1], size[0])
    most = 4.0 if min(size) > 16 else 8.0  # of noise, whose colours are upsampled otherwise
    assert difference(tensor, each) < most


@pytest.mark.parametrize("compute", [(1472, 824), (960, 540), (480, 270), (2048, 1200)])
def test_other_compute_sizes_are_those_of_the_host(ingest, compute):
    each = picture(encode(photo(1920, 1080)), compute)
    for tensor in ingest.decode([each] * 20):
        assert tensor.shape == (3, compute[1], compute[0]) and difference(tensor, each) < 4.0


def test_pixels_are_uploaded_as_they_are(ingest):
    images = [photo(64, 48, seed) for seed in range(3)] + [photo(32, 24)]
    pictures = [Picture(i.shape[1], i.shape[0], (i.shape[1], i.shape[0]), i) for i in images]
    for tensor, image in zip(ingest.decode(pictures), images, strict=True):
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).cpu().numpy(), image)


def damages():
    whole = encode(photo(320, 240, 5))
    middle = len(whole) // 2
    return {
        "bytes changed": whole[:middle] + b"\x55\xaa" * 200 + whole[middle + 400 :],
        "bytes missing": whole[:middle] + whole[middle + 400 :],
        "cut": whole[:-800] + b"\xff\xd9",
        "cut in the middle": whole[:middle] + b"\xff\xd9",
    }


@pytest.mark.parametrize("damage", damages())
def test_damage_is_answered_as_by_the_host_and_costs_nobody_else(ingest, damage):
    good = [picture(encode(photo(320, 240, seed))) for seed in range(4)]
    bad = picture(damages()[damage])
    assert is_plain(read_header(bad.data)), "else the frontend decodes it"
    with pytest.raises(BadFrame) as wanted:
        decode_picture(bad)
    *found, answer = ingest.decode([*good, bad])
    for tensor, each in zip(found, good, strict=True):
        assert difference(tensor, each) < 4.0
    assert isinstance(answer, Failure) and answer.reason is wanted.value.failure.reason
