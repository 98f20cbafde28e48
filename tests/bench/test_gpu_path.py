"""The bench of the engine alone: what it feeds, what it counts, what it writes."""

import json
import os
import subprocess
import sys

import pytest
import torch

from bench import gpu_path
from bench.clips import drawn_clip
from bench.engine_cameras import Cameras, pictures_of, torch_operations
from bench.gpu_path import Measurement, measure
from support.fake_engine import FakeEngine
from tilestream.messages import STAGES, Codec, DropReason, Failure, Outcome

SIZE = (64, 48)
NOT_NEEDED = ("av", "grpc", "pydantic", "pydantic_settings", "turbojpeg", "typer", "google.rpc")


@pytest.fixture(scope="module")
def clip():
    return drawn_clip(SIZE, frames=4)


class FailingEngine(FakeEngine):
    """Refuses every frame."""

    def step(self, plan):
        failure = Failure.dropped(DropReason.ENGINE_ERROR, "no memory")
        return [Outcome(frame.session_id, frame.frame_id, failure=failure) for frame, _ in plan.frames]


def test_every_step_has_a_frame_of_each_session_at_a_place_of_its_own(clip):
    engine = FakeEngine()
    cameras = Cameras(engine, "fake", pictures_of(clip, SIZE, as_jpeg=False), 3, 0.25)
    cameras.open()
    plan = cameras.plan()
    assert [frame.session_id for frame, _ in plan.frames] == ["s0", "s1", "s2"]
    assert {grant.budget for _, grant in plan.frames} == {0.25}
    assert plan.frames[0][0].picture is not plan.frames[1][0].picture
    assert cameras.plan().frames[0][0].frame_id == 1
    phases = {spec.phase for spec in engine.open_sessions.values()}
    assert len(phases) == 3
    cameras.close()
    assert not engine.open_sessions


def test_jpegs_go_in_as_they_are(clip):
    [first, *_] = pictures_of(clip, SIZE, as_jpeg=True)
    assert (first.data, first.pixels, first.codec) == (clip[0], None, Codec.JPEG)
    [first, *_] = pictures_of(clip, SIZE, as_jpeg=False)
    assert not first.data and first.pixels.shape == (48, 64, 3)


def test_whole_frames_count_in_the_time_of_a_frame(clip):
    waits = []
    engine = FakeEngine()
    engine.whole_interval = 4
    cameras = Cameras(engine, "fake", pictures_of(clip, SIZE, as_jpeg=False), 2, 0.25)
    row = measure(cameras, Measurement(0.25, steps=8, warmup=4), lambda: waits.append(1))
    assert row["whole_share"] == 0.25 and len(waits) == 16
    assert row["ms_frame"] * 2 == pytest.approx(row["ms_step_mean"], abs=0.01)
    assert "torch_ops" not in row


def test_a_frame_that_fails_ends_a_measurement(clip):
    cameras = Cameras(FailingEngine(), "fake", pictures_of(clip, SIZE, as_jpeg=False), 1, 0.25)
    with pytest.raises(RuntimeError, match="no memory"):
        measure(cameras, Measurement(0.25, steps=1, warmup=1), lambda: None)


def test_operations_are_counted(clip):
    class Adding(FakeEngine):
        def step(self, plan):
            torch.zeros(2).add_(1).mul_(2)
            return super().step(plan)

    cameras = Cameras(Adding(), "fake", pictures_of(clip, SIZE, as_jpeg=False), 1, 0.25)
    cameras.open()
    assert torch_operations(cameras) == 3


def test_jpegs_for_an_engine_that_takes_none_are_refused():
    arguments = gpu_path.parser().parse_args(["--engine-takes", "jpeg"])
    with pytest.raises(SystemExit, match="takes no JPEGs"):
        gpu_path.sizes_measured(FakeEngine(), arguments, lambda sizes: None)


@pytest.mark.parametrize("takes, expected", [((Codec.JPEG,), "jpeg"), ((), "pixels")])
def test_an_engine_gets_jpegs_where_it_takes_them(takes, expected):
    words = ["--sessions", "2", "--size", "64x48", "--steps", "1", "--warmup", "0"]
    engine, saved = FakeEngine(takes=takes), []
    sizes = gpu_path.sizes_measured(engine, gpu_path.parser().parse_args(words), saved.append)
    assert sizes["64x48"]["frames_as"] == expected and saved == [sizes]
    assert "error" not in sizes["64x48"]["sessions"]["2"]


def test_the_command_needs_nothing_of_the_server_but_what_computes(tmp_path):
    """Machines with a GPU may have nothing else."""
    path = tmp_path / "path.json"
    words = ["--sessions", "1,2", "--size", "64x48,80x64", "--steps", "2", "--warmup", "2", "--count"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_NEEDED})); from bench.gpu_path import main; "
    )
    program += f"main({[*words, '--precision', 'fp32', '--json', str(path)]})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert list(record["sizes"]) == ["64x48", "80x64"] and record["gate"] == "learned"
    assert record["sessions"] == record["sizes"]["80x64"]["sessions"]
    for row in record["sessions"].values():
        assert row["ms_frame"] > 0 < row["ms_step"] and set(row["stages_ms"]) >= set(STAGES)
        assert row["torch_ops"] > 0 < row["python_calls"]
    assert done.stdout.count("80x64") == 2
