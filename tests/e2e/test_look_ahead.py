"""Labels that wait for later frames, through the real server: those of the library, in order, once."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from support.processes import served
from tilestream.engine import StreamingSegmenter
from tilestream.media.jpeg import FrameLimits, decode_picture, read_picture
from tilestream.models import load_model
from tilestream_client import Client, Frame
from tilestream_street import SyntheticStreet

pytestmark = pytest.mark.e2e
NO_LIMITS = FrameLimits(1 << 30, 1 << 30, 1 << 16)
FPS, BUDGET = 16.0, 0.25  # a sixteenth of a second is a number that floats have


@pytest.fixture(scope="module")
def jpegs() -> list[bytes]:
    made = SyntheticStreet(seed=1_009_998, width=320, height=240, fps=FPS)
    return [cv2.imencode(".jpg", made.frame(t).image[..., ::-1])[1].tobytes() for t in range(14)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(tmp_path_factory.mktemp("server"), "--models", "swiftnet_resnet18") as (_, port):
        yield f"127.0.0.1:{port}"


def of_the_library(jpegs: list[bytes]) -> list[np.ndarray]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the server: sums have to be split alike
    pictures = [decode_picture(read_picture(jpeg, NO_LIMITS, None, 1 << 30)) for jpeg in jpegs]
    segment = StreamingSegmenter(load_model("swiftnet_resnet18"), budget=BUDGET, look_ahead=8)
    labels = [labels for labels, _ in segment.stream(picture.pixels for picture in pictures)]
    torch.set_num_threads(threads)
    return labels


def test_the_server_gives_the_labels_of_the_library(jpegs, address):
    frames = [Frame(data=data, capture_time=1e9 + index / FPS) for index, data in enumerate(jpegs)]
    with Client(address) as client:
        stream = client.stream(iter(frames), block_budget=BUDGET, max_delay_ms=500)
        results = list(stream)
    assert [result.frame_id for result in results] == list(range(len(jpegs)))
    assert all(result.ok for result in results)
    for result, labels in zip(results, of_the_library(jpegs), strict=True):
        assert np.array_equal(result.labels, labels), result.frame_id
    between = [result.reuse for result in results if result.reuse.frames_until_source]
    assert len(between) >= 6 and any(reuse.future_share > 0.1 for reuse in between)


def test_the_command_waits_for_later_frames_of_a_file_and_not_when_told_so(jpegs, address, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, data in enumerate(jpegs):
        (folder / f"{index:02}.jpg").write_bytes(data)
    masks = {}
    for name, options in {"default": [], "at once": ["--max-delay", "0"]}.items():
        out = tmp_path / name
        command = [sys.executable, "-m", "tilestream_client", "stream", str(folder), "--server", address]
        command += ["--budget", str(BUDGET), "--masks", str(out), *options]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
        masks[name] = [np.array(Image.open(file)) for file in sorted(out.iterdir())]
    expected = of_the_library(jpegs)
    assert [np.array_equal(*pair) for pair in zip(masks["default"], expected, strict=True)] == [True] * 14
    same = [np.array_equal(*pair) for pair in zip(masks["at once"], expected, strict=True)]
    assert not all(same) and same[0], "whole frames are the same, those between are not"
