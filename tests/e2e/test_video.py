"""Video against the real engine: its labels are those of its pictures sent as JPEGs."""

from __future__ import annotations

import numpy as np
import pytest

from support.processes import served
from support.video import STRUCTURES, write_clip
from tilestream_client import Client, VideoFile, VideoPackets
from tilestream_street import SyntheticStreet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

FRAMES = 12
CASES = [
    ("h264", "closed", "yuv420p"),
    ("h264", "open", "yuv420p"),
    ("h264", "refresh", "yuv420p"),
    ("h265", "closed", "yuv420p"),
    ("h265", "open", "yuv420p10le"),
]


def test_labels_of_units_are_those_of_their_pictures_sent_as_jpegs(tmp_path):
    """Every frame in full, so that nothing but the pictures can make a difference."""
    street = [
        frame.image for frame in SyntheticStreet(seed=7, width=320, height=240, fps=15.0).frames(FRAMES)
    ]
    flags = ("--models", "swiftnet_resnet18", "--min-block-budget", "1", "--precision", "fp32")
    with served(tmp_path, *flags) as (_, port), Client(f"127.0.0.1:{port}") as client:
        for codec, structure, pixels in CASES:
            path = write_clip(
                tmp_path / f"{codec}-{structure}.mp4", street, codec, STRUCTURES[structure], pixels
            )
            units = list(client.stream(VideoPackets(path), block_budget=1.0))
            images = list(client.stream(VideoFile(path), block_budget=1.0, quality=97))
            assert all(result.ok for result in (*units, *images))
            units.sort(key=lambda result: result.capture_time)
            same = [
                float((unit.labels == image.labels).mean()) for unit, image in zip(units, images, strict=True)
            ]
            assert min(same) > 0.97 and np.mean(same) > 0.985, (codec, structure, same)
