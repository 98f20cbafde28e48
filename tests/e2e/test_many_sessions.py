"""Sixteen cameras at once: each one's masks are those that it gets alone."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from support.processes import served
from tilestream_client import Client
from tilestream_street import SyntheticStreet

pytestmark = pytest.mark.e2e

SESSIONS, FRAMES = 16, 6
SIZES = ((128, 96), (160, 96), (128, 128))  # width, height
PINNED = ("--min-block-budget", "1", "--block-budget", "0.3", "--max-step-seconds", "5")


def masks(address: str, jpegs: list[bytes]) -> list[np.ndarray]:
    with Client(address) as client:
        results = list(client.stream(iter(jpegs), frames_in_flight=2, queue_policy="wait"))
    assert [result.ok for result in results] == [True] * FRAMES
    return [result.labels for result in results]


@pytest.fixture(scope="module")
def clips() -> list[list[bytes]]:
    """What cameras of three sizes see of one street, each at a place of its own."""
    frames = [frame.image[..., ::-1] for frame in SyntheticStreet(500, 320, 240, fps=15.0).frames(FRAMES)]

    def clip(camera: int) -> list[bytes]:
        (width, height), left, top = SIZES[camera % 3], 10 * camera, 7 * camera
        views = [frame[top : top + height, left : left + width] for frame in frames]
        return [cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for view in views]

    return [clip(camera) for camera in range(SESSIONS)]


@pytest.mark.parametrize(("gate", "engines"), [("every_k", 0), ("budget", 2)])
def test_masks_do_not_depend_on_who_else_streams(tmp_path, clips, gate, engines):
    flags = ("--models", "swiftnet_resnet18", "--gate", gate, "--engines", str(engines), *PINNED)
    with served(tmp_path, *flags) as (_, port), ThreadPoolExecutor(SESSIONS) as pool:
        address = f"127.0.0.1:{port}"
        together = list(pool.map(lambda jpegs: masks(address, jpegs), clips))
        for jpegs, ours in zip(clips, together, strict=True):
            for alone, shared in zip(masks(address, jpegs), ours, strict=True):
                assert np.array_equal(alone, shared)
