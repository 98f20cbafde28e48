"""The resident engine as the server's: whichever device it is on, what goes wrong stays with its frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.networks import write_weights
from support.plans import frame_of, plan_of
from support.resident import pan
from tilestream.engine import EngineOptions
from tilestream.engine import engine as torch_engine
from tilestream.engine.engine import TorchEngine
from tilestream.engine.model_engine import ModelEngine
from tilestream.engine.resident.engine import ResidentEngine
from tilestream.label_runs import label_map
from tilestream.messages import (
    DropReason,
    EngineError,
    Frame,
    Grant,
    InvalidReason,
    Picture,
    SessionSpec,
    StepPlan,
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = write_weights(tmp_path_factory.mktemp("weights") / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_engine, "RESIDENT_DEVICES", ("cpu", "cuda"))
        patch.setattr(ResidentEngine, "warm_up", lambda self: None)  # which takes long on a CPU
        made = TorchEngine(EngineOptions((str(path),), device="cpu", precision="fp32", gate="every_k"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def sessions(engine):
    for name in ("a", "b", "c"):
        engine.open(SessionSpec(name, "model", bins=True))
    yield
    for name in ("a", "b", "c"):
        engine.release(name)


def step(engine, index, names="abc"):
    clips = {name: pan(4, seed=seed) for seed, name in enumerate("abc")}
    return engine.step(plan_of(*(frame_of(name, index, clips[name][index]) for name in names), budget=0.3))


def test_a_frame_has_bins_where_it_asks_for_them_itself(engine):
    engine.open(SessionSpec("plain", "model"))
    frames = [frame_of("plain", number, image) for number, image in enumerate(pan(2))]
    (asks,) = engine.step(plan_of(replace(frames[0], bins=True)))
    (does_not,) = engine.step(plan_of(frames[1]))
    engine.release("plain")
    assert asks.bins.units_computed.any() and does_not.bins is None


@pytest.mark.parametrize("gate", ["every_k", "budget"])
def test_which_engine_it_is_depends_on_the_device(tmp_path, monkeypatch, gate):
    options = EngineOptions(
        (str(write_weights(tmp_path / "model.safetensors")),), device="cpu", precision="fp32", gate=gate
    )
    assert type(TorchEngine(options)._models["model"]) is ModelEngine
    monkeypatch.setattr(torch_engine, "RESIDENT_DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(ResidentEngine, "warm_up", lambda self: None)
    assert type(TorchEngine(options)._models["model"]) is ResidentEngine


def test_a_gate_that_is_not_run_on_a_gpu_is_refused_with_those_that_are(tmp_path, monkeypatch):
    path = str(write_weights(tmp_path / "model.safetensors"))
    options = EngineOptions((path,), device="cpu", precision="fp32", gate="refresh", bin_size=64)
    assert type(TorchEngine(options)._models["model"]) is ModelEngine
    monkeypatch.setattr(torch_engine, "RESIDENT_DEVICES", ("cpu", "cuda"))
    with pytest.raises(EngineError, match="'refresh' is run on a CPU only; on cpu take learned or every_k"):
        TorchEngine(options)


def test_steps_are_answered_and_reported(engine):
    assert type(engine._models["model"]) is ResidentEngine
    first, second = step(engine, 0), step(engine, 1)
    assert [outcome.stats.whole for outcome in (*first, *second)] == [True] * 3 + [False] * 3
    assert all(outcome.labels.shape == (64, 80) for outcome in second)
    report = engine.report()
    assert (report.tiles, report.store_pages) == (0, 3)
    assert 0 < report.store_bytes <= report.store_limit_bytes


def test_an_exception_restarts_the_sessions_of_its_step_and_no_others(engine, monkeypatch):
    step(engine, 0)
    model = engine._models["model"]

    def fail(batch):
        raise RuntimeError("no kernel image is available")

    with monkeypatch.context() as patch:
        patch.setattr(model._computer, "run", fail)
        failed = step(engine, 1, "ab")
    assert all(outcome.failure.reason is DropReason.ENGINE_ERROR for outcome in failed)
    assert [outcome.session_id for outcome in failed] == ["a", "b"]
    assert model.by_last_use() == ["c"] and model.usage().pages == 1
    assert [outcome.stats.whole for outcome in step(engine, 2)] == [True, True, False]


def test_a_step_that_finds_no_memory_is_tried_once_more_and_is_right(engine, monkeypatch):
    step(engine, 0)
    model, times = engine._models["model"], []
    real = model._computer.run

    def short(batch):
        times.append(batch)
        if len(times) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(batch)

    with monkeypatch.context() as patch:
        patch.setattr(model._computer, "run", short)
        outcomes = step(engine, 1, "ab")
    assert len(times) == 2
    assert [outcome.stats.whole for outcome in outcomes] == [True, True]
    engine.release("a")
    engine.open(SessionSpec("a", "model"))
    (alone,) = step(engine, 1, "a")
    assert (label_map(alone.labels) != label_map(outcomes[0].labels)).mean() < 1e-3


def test_a_torn_picture_fails_alone(engine):
    good = frame_of("a", 1, pan()[0])
    torn = Frame("b", 1, Picture(80, 64, (80, 64), data=b"\xff\xd8no jpeg"))
    found, failed, none = engine.step(
        StepPlan(((good, Grant()), (torn, Grant()), (Frame("x", 1, good.picture), Grant())))
    )
    assert found.failure is None and np.unique(label_map(found.labels)).size > 0
    assert failed.failure.reason in tuple(InvalidReason)
    assert none.failure.detail == "the session is not open"
