"""Evaluation on a video: what it reports follows from what was computed."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from support.reuse_engines import network
from tilestream.cli import app
from tilestream.engine.streaming import StreamingSegmenter
from tilestream_street import SyntheticStreet
from tilestream_training.datasets.base import Sample
from tilestream_training.stream_evaluation import StreamEvaluation
from tilestream_training.stream_methods import OracleGate, RandomGate, make_method

FRAMES = 12


class Clip:
    """A short drive whose truth is what the dense network says, so that dense is right everywhere."""

    def __init__(self, classes: int) -> None:
        self.class_names = tuple(f"class{index}" for index in range(classes))
        frames = SyntheticStreet(5, 96, 80).frames(FRAMES)
        self._images = [np.ascontiguousarray(frame.image) for frame in frames]
        self.truth: list[np.ndarray] = []

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> Sample:
        truth = self.truth[index] if self.truth else np.zeros((80, 96), np.uint8)
        return Sample(self._images[index], truth, str(index))


@pytest.fixture(scope="module")
def evaluation() -> StreamEvaluation:
    module = network("split")
    clip = Clip(8)
    first = StreamEvaluation(module, "none", clip, bin_size=16, progress=False)
    clip.truth = first._dense_labels
    return StreamEvaluation(module, "none", clip, bin_size=16, progress=False)


def test_computing_everything_is_the_dense_network(evaluation):
    point = evaluation.run("every_k", 1.0)
    assert point.miou == evaluation.dense.miou == 1.0
    assert (point.units_kept, point.macs_ratio, point.agreement, point.key_frames) == (1, 1, 1, 1)
    assert point.miou_by_age == {"0": 1.0}
    assert point.reuse_agreement is None and point.reuse_wrong is None


def test_every_third_frame(evaluation):
    point = evaluation.run("every_k", 1 / 3)
    assert point.units_kept == pytest.approx(1 / 3) and point.key_frames == pytest.approx(1 / 3)
    assert {"0", "1", "2"} <= set(point.miou_by_age) and point.miou_by_age["0"] == 1.0
    assert point.miou_loss == pytest.approx(100 * (1.0 - point.miou)) and point.agreement < 1
    assert 0 < point.reuse_agreement < point.agreement  # at the age of 3, older than what is shown
    assert 0 < point.reuse_wrong < 1


def test_the_oracle_computes_what_would_be_wrong():
    gate = OracleGate(16)
    segment = StreamingSegmenter(network("split"), 16, 0.5, gate=gate, dense_above=2.0)
    image = SyntheticStreet(5, 96, 80).frame(0).image
    labels, _ = segment(image)
    told = labels.copy()
    told[16:32, 32:48] += 1
    for _ in range(4):  # until the first frame is paid for
        gate.tell(segment, told)
        answer = segment.outcome(image)
    assert np.argwhere(answer.bins.units_computed).tolist() == [[1, 2]]


def test_half_the_resolution_costs_a_quarter(evaluation):
    point = evaluation.run("half_resolution", 1.0)
    assert point.macs_ratio == 0.25 and 0 < point.miou < 1


def test_the_random_gate_repeats():
    assert RandomGate(3)._random.random() == RandomGate(3)._random.random()


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match="nonsense"):
        make_method("nonsense", "none", 64)


def test_the_command_writes_what_is_promised(tmp_path):
    file, plot = tmp_path / "result.json", tmp_path / "plots" / "plot.png"
    command = ["eval", "stream", "--data", "synthetic:2", "--methods", "every_k", "--budgets", "0.5"]
    command += ["--standstill", "2x1", "--plot", str(plot), "--model", "ddrnet23_slim"]
    result = CliRunner().invoke(app, [*command, "--precision", "fp32", "--json", str(file)])
    assert result.exit_code == 0, result.output
    record = json.loads(file.read_text())
    assert record["standstill"] == "2x1"
    assert record["monitor"]["points"] == 1 and set(record["monitor"]["by_method"]) == {"every_k"}
    assert cv2.imread(str(plot)) is not None
    assert {"miou", "ms"} <= set(record["dense"])
    wanted = "method budget miou miou_loss units_kept macs_ratio ms speedup_vs_dense speedup_vs_openvino_bf16"
    wanted += " agreement temporal_consistency miou_by_age p50_ms p99_ms iou_by_class reuse_agreement"
    assert set(wanted.split()) <= set(record["points"][0])


@pytest.mark.parametrize(
    "wrong", ["--budgets=2", "--methods=nonsense", "--data=/does/not/exist", "--standstill=x"]
)
def test_wrong_arguments_are_told(wrong):
    arguments = ["eval", "stream", "--data", "synthetic:2", wrong]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "Traceback" not in result.output
