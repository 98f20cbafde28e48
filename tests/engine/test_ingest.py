"""From pictures to tensors: whichever way they come, and whatever the device's decoder thinks of them."""

import cv2
import numpy as np
import pytest
import torch

from support.frames import encode, photo
from tilestream.engine.ingest import Ingest
from tilestream.engine.ingest.nvjpeg import Refused, find_decoder
from tilestream.engine.ingest.resize import Resizer
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import decode_jpeg, decode_picture
from tilestream.media.jpeg_header import read_header
from tilestream.messages import Codec, Failure, FailureKind, Picture

CPU = torch.device("cpu")


class Decoder:
    """In nvJPEG's place: libjpeg-turbo, which refuses a batch with any of ``refuses`` in it."""

    def __init__(self, *refuses):
        self.refuses = refuses
        self.batches = []

    def __call__(self, batch):
        self.batches.append(list(batch))
        if any(data in self.refuses for data in batch):
            raise Refused("no")
        return [self.pixels(data) for data in batch]

    def pixels(self, data):
        header = read_header(data)
        image = decode_jpeg(data, header.width, header.height)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def jpeg(seed=0, size=(64, 48)):
    return encode(photo(*size, seed))


def damaged(seed=0):
    data = bytearray(jpeg(seed, (320, 240)))
    middle = len(data) // 2
    data[middle : middle + 400] = b"\x55\xaa" * 200
    return bytes(data)


def picture(data, compute=None):
    header = read_header(data)
    size = header.width, header.height
    return Picture(*size, compute or size, data=data)


def expected(pictures):
    """What the frontend would hand to an engine that takes pixels, or tell the client."""
    found = []
    for each in pictures:
        try:
            found.append((each if each.pixels is not None else decode_picture(each)).pixels)
        except BadFrame as bad:
            found.append(bad.failure)
    return found


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for tensor, image in zip(found, wanted, strict=True):
        if isinstance(image, Failure):
            assert tensor == image
        else:
            assert tensor.dtype == torch.uint8
            np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), image)


def test_all_of_a_step_are_decoded_in_one_call():
    decoder = Decoder()
    ingest = Ingest(CPU, decoder)
    pictures = [picture(jpeg(seed, size)) for seed, size in enumerate([(64, 48), (33, 17), (64, 48)])]
    assert ingest.takes == (Codec.JPEG,)
    assert_same(ingest.decode(pictures), expected(pictures))
    assert [len(batch) for batch in decoder.batches] == [3]


def test_pixels_and_bytes_come_back_in_their_order():
    pixels = [Picture(8, 6, (8, 6), photo(8, 6, seed)) for seed in range(3)]
    pictures = [pixels[0], picture(jpeg(1)), pixels[1], picture(jpeg(2)), pixels[2]]
    decoder = Decoder()
    assert_same(Ingest(CPU, decoder).decode(pictures), expected(pictures))
    assert [len(batch) for batch in decoder.batches] == [2]


@pytest.mark.parametrize("refused", [(0,), (5,), (2, 3), tuple(range(6))])
def test_what_the_device_refuses_is_decoded_on_the_host(refused):
    pictures = [picture(jpeg(seed)) for seed in range(6)]
    decoder = Decoder(*(pictures[index].data for index in refused))
    assert_same(Ingest(CPU, decoder).decode(pictures), expected(pictures))


def test_what_nobody_can_decode_is_answered_as_by_the_frontend():
    whole = jpeg(2, (320, 240))
    bad = [damaged(), whole[:-800] + b"\xff\xd9"]
    pictures = [picture(jpeg(0)), *map(picture, bad), picture(jpeg(1))]
    found = Ingest(CPU, Decoder(*bad)).decode(pictures)
    assert_same(found, expected(pictures))
    assert [failure.kind for failure in found[1:3]] == [FailureKind.INVALID] * 2
    assert found[1].reason is not found[2].reason


def test_a_decoder_that_gives_another_size_is_not_believed():
    class Wrong(Decoder):
        def pixels(self, data):
            return super().pixels(data)[:, 1:]

    pictures = [picture(jpeg(0)), picture(jpeg(1), (32, 24))]
    assert_same(Ingest(CPU, Wrong()).decode(pictures), expected(pictures))


def test_shortage_of_memory_is_no_refusal():
    class Short(Decoder):
        def __call__(self, batch):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Ingest(CPU, Short()).decode([picture(jpeg())])


def test_where_the_device_decodes_nothing_the_host_does():
    assert find_decoder(CPU) is None
    ingest = Ingest(CPU)
    pictures = [picture(jpeg(0), (32, 24)), picture(damaged())]
    assert ingest.takes == ()
    assert_same(ingest.decode(pictures), expected(pictures))
    assert ingest.decode([]) == []


def test_a_picture_without_anything_is_dropped_alone():
    empty = Picture(8, 6, (8, 6))
    none = Picture(0, 0, (0, 0), np.zeros((0, 0, 3), np.uint8))
    found = Ingest(CPU, Decoder()).decode([empty, picture(jpeg()), none])
    assert [isinstance(each, Failure) for each in found] == [True, False, True]
    assert found[0].kind is FailureKind.DROPPED and found[0].detail == "the frame has no pixels"


def test_pixels_are_not_copied_where_the_host_computes():
    image = photo(16, 12)
    (tensor,) = Ingest(CPU).decode([Picture(16, 12, (16, 12), image)])
    assert np.shares_memory(tensor.numpy(), image)


@pytest.mark.parametrize("compute", [(480, 270), (320, 180), (640, 360), (111, 77), (1000, 600)])
def test_other_compute_sizes_look_as_on_the_host(compute):
    data = encode(photo(640, 360), 95)
    pictures = [picture(data, compute), picture(data), picture(jpeg(1), (32, 24)), picture(data, compute)]
    found = Ingest(CPU, Decoder()).decode(pictures)
    for tensor, image in zip(found, expected(pictures), strict=True):
        assert tensor.shape == (3, *image.shape[:2])
        difference = np.abs(tensor.permute(1, 2, 0).numpy().astype(int) - image)
        assert difference.mean() < 1.5
    assert torch.equal(found[0], found[3])


@pytest.mark.parametrize("size", [(30, 20), (33, 21), (59, 39), (40, 60), (80, 50), (1, 1), (60, 40)])
def test_resizing_is_opencvs(size):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (resized,) = Resizer(CPU)([torch.from_numpy(image).permute(2, 0, 1)], size)
    if size == (40, 60):  # one axis shrinks, one grows: OpenCV has nothing of the kind
        along_x = cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA)
        wanted = cv2.resize(along_x, size, interpolation=cv2.INTER_LINEAR)
    else:
        shrinks = size[0] < 60
        wanted = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    assert np.abs(resized.permute(1, 2, 0).numpy().astype(int) - wanted).max() <= 1


def test_many_frames_are_resized_in_several_batches():
    images = [torch.from_numpy(photo(16, 12, seed)).permute(2, 0, 1) for seed in range(40)]
    resize = Resizer(CPU)
    together, alone = resize(images, (8, 8)), [resize([image], (8, 8))[0] for image in images]
    assert len(together) == 40 and all(map(torch.equal, together, alone))
