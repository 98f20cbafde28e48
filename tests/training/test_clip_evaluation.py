"""Evaluation on videos without labels."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from support.reuse_engines import network
from tilestream.cli import app
from tilestream.engine.gates.rules import EveryKGate
from tilestream_street import SyntheticStreet
from tilestream_training.clip_evaluation import play


@pytest.fixture(scope="module")
def street() -> list[np.ndarray]:
    return [np.ascontiguousarray(frame.image) for frame in SyntheticStreet(5, 96, 80).frames(9)]


def test_everything_computed_agrees_with_dense(street):
    point = play(network("split"), EveryKGate(1), street, ("street", "every_k"), 1.0, bin_size=16)
    assert (point.agreement, point.agreement_p5, point.macs_ratio, point.key_frames) == (1, 1, 1, 1)
    assert point.reuse_agreement is None and point.frames == 9


def test_a_third_of_the_frames(street):
    point = play(network("split"), EveryKGate(3), street, ("street", "every_k"), 0.33, bin_size=16)
    assert point.macs_ratio == pytest.approx(1 / 3) and point.key_frames == pytest.approx(1 / 3)
    assert point.agreement_p5 <= point.agreement < 1
    assert 0 < point.reuse_agreement < 1 and 0 < point.reuse_wrong < 1
    assert point.speedup_vs_dense == pytest.approx(point.dense_ms / point.ms)


def video(path: Path, frames: list[np.ndarray]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def test_the_command(tmp_path, street):
    clips = [video(tmp_path / f"{name}.avi", street) for name in "ab"]
    file = tmp_path / "out" / "result.json"
    words = ["eval", "clips", *map(str, clips), "--method", "every_k", "--budget", "0.5,0.34"]
    words += ["--model", "ddrnet23_slim"]
    result = CliRunner().invoke(app, [*words, "--frames", "4", "--precision", "fp32", "--json", str(file)])
    assert result.exit_code == 0, result.output
    record = json.loads(file.read_text())
    played = [(point["clip"], point["budget"], point["frames"]) for point in record["clips"]]
    assert played == [("a", 0.5, 4), ("a", 0.34, 4), ("b", 0.5, 4), ("b", 0.34, 4)]
    assert str(tmp_path) not in file.read_text()  # where videos lie concerns nobody else


@pytest.mark.parametrize("wrong", ["--budget=2", "--method=oracle", "--budget=x", "--model=nonsense"])
def test_wrong_arguments_are_told(tmp_path, street, wrong):
    path = video(tmp_path / "a.avi", street[:2])
    result = CliRunner().invoke(app, ["eval", "clips", str(path), wrong])
    assert result.exit_code == 1 and "error" in result.output and "Traceback" not in result.output
    missing = CliRunner().invoke(app, ["eval", "clips", str(tmp_path / "none.mp4")])
    assert missing.exit_code == 1 and "cannot be read" in missing.output
