"""Street video through the real server: the masks are the shipped model's own, and they are right."""

import cv2
import numpy as np
import pytest
import torch

from support.processes import served
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.media.jpeg import FrameLimits, decode_picture, read_picture
from tilestream.models import list_models, load_model
from tilestream_client import Client, MaskEncoding
from tilestream_street import SyntheticStreet
from tilestream_training.metrics import ConfusionMatrix

pytestmark = pytest.mark.e2e
NO_LIMITS = FrameLimits(1 << 30, 1 << 30, 1 << 16)


@pytest.fixture(scope="module")
def street():
    """Frames of a street that no model was trained on, with their true labels, and as JPEGs."""
    made = SyntheticStreet(seed=1_009_999, width=480, height=360, fps=15.0)
    frames = [made.frame(t) for t in (0, 1, 2, 60, 61, 62)]
    jpegs = [
        cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        for frame in frames
    ]
    return frames, jpegs


@pytest.fixture(scope="module")
def expected(street) -> list[np.ndarray]:
    """What the model makes of the frames in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the server: sums have to be split alike
    executor = DenseExecutor(load_model("swiftnet_resnet18"), torch.device("cpu"), torch.float32)
    pictures = [decode_picture(read_picture(jpeg, NO_LIMITS, None, 1 << 30)) for jpeg in street[1]]
    labels = [executor.labels(picture.pixels) for picture in pictures]
    torch.set_num_threads(threads)
    return labels


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(tmp_path_factory.mktemp("server"), "--models", "swiftnet_resnet18") as (_, port):
        yield f"127.0.0.1:{port}"


def test_a_model_is_shipped():
    assert list_models()[0] == "swiftnet_resnet18"


@pytest.mark.parametrize("encoding", [MaskEncoding.PNG, MaskEncoding.RLE, MaskEncoding.RAW])
def test_received_masks_are_the_models_own_bit_for_bit(street, expected, address, encoding):
    frames, jpegs = street
    matrix = ConfusionMatrix(11)
    with Client(address) as client:
        results = list(
            client.stream(iter(jpegs), mask_encoding=encoding, frames_in_flight=3, block_budget=1.0)
        )
    assert [result.ok for result in results] == [True] * len(jpegs)
    for frame, labels, result in zip(frames, expected, results, strict=True):
        assert np.array_equal(result.labels, labels)
        matrix.add(frame.labels, result.labels)
    assert matrix.miou() > 0.6
