"""The engine: one outcome per frame, in order, whatever else is in the step."""

from dataclasses import replace

import numpy as np
import pytest

from support.frames import encode, photo
from support.networks import CLASSES, PALETTE, write_weights
from support.plans import frame_of, plan_of
from tilestream.engine import EngineOptions, create_engine
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import decode_picture
from tilestream.messages import EngineError, Frame, Picture, SessionSpec


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    paths = (
        write_weights(folder / "first.safetensors"),
        write_weights(folder / "second.safetensors", seed=1),
    )
    made = create_engine(EngineOptions(tuple(map(str, paths)), device="cpu", precision="fp32"))
    yield made
    made.close()


def picture(height=96, width=128, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def alone(engine, model, image):
    engine.open(SessionSpec("alone", model))
    (outcome,) = engine.step(plan_of(frame_of("alone", 1, image)))
    engine.release("alone")
    return outcome.labels


def test_models_are_told_in_the_order_of_the_options(engine):
    assert [info.name for info in engine.info.models] == ["first", "second"]
    assert engine.info.models[0].classes == CLASSES
    assert engine.info.models[0].palette == PALETTE


def test_the_gate_that_auto_became_is_told(engine):
    assert [info.gate for info in engine.info.models] == ["every_k", "every_k"]  # these weights have none


def test_what_the_system_refuses_is_no_fault_of_a_model(monkeypatch):
    def full(options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tilestream.engine.engine.TorchEngine", full)
    with pytest.raises(EngineError, match=r"the system refused what the engine needs: .*No space left"):
        create_engine(EngineOptions())


def test_a_mixed_step_answers_every_frame_in_order(engine):
    frames = []
    for index in range(6):
        model, size = ("first", "second")[index % 2], ((96, 128), (64, 64), (70, 90))[index % 3]
        engine.open(SessionSpec(f"s{index}", model))
        frames.append((model, frame_of(f"s{index}", 10 + index, picture(*size, seed=index))))
    outcomes = engine.step(plan_of(*(frame for _, frame in frames)))
    assert [(o.session_id, o.frame_id) for o in outcomes] == [(f.session_id, f.frame_id) for _, f in frames]
    for (model, frame), outcome in zip(frames, outcomes, strict=True):
        assert (outcome.labels != alone(engine, model, frame.picture.pixels)).mean() < 1e-3
        engine.release(frame.session_id)


def test_dense_frames_compute_every_unit(engine):
    engine.open(SessionSpec("s", "first", confidence=True, bins=True))
    (outcome,) = engine.step(plan_of(frame_of("s", 1, picture(70, 130))))
    engine.release("s")
    grid = (2, 3)  # bins of 64 pixels, the last ones not full
    assert outcome.stats.key_frame
    assert outcome.stats.units_computed == outcome.stats.units_total == 14 * 6
    assert outcome.stats.block_drop_rate == 0
    assert outcome.stats.macs > 0
    assert set(outcome.stats.stage_seconds) == {"backbone", "head"}
    assert outcome.bins.units_computed.shape == outcome.bins.age.shape == grid
    assert outcome.bins.units_computed.sum() == outcome.stats.units_computed
    assert outcome.confidence.shape == (70, 130)


def test_optional_outputs_stay_away_where_nobody_asked(engine):
    engine.open(SessionSpec("plain", "first"))
    engine.open(SessionSpec("curious", "first", confidence=True))
    plain, curious = engine.step(plan_of(frame_of("plain", 1, picture()), frame_of("curious", 1, picture())))
    assert plain.confidence is None and plain.bins is None
    assert curious.confidence is not None and curious.bins is None


def test_a_frame_has_bins_where_it_asks_for_them_itself(engine):
    engine.open(SessionSpec("s", "first"))
    asks, plain = (replace(frame_of("s", number, picture()), bins=number == 1) for number in (1, 2))
    assert engine.step(plan_of(asks))[0].bins.units_computed.any()
    assert engine.step(plan_of(plain))[0].bins is None
    engine.release("plain")
    engine.release("curious")


def test_bad_frames_fail_alone(engine):
    engine.open(SessionSpec("good", "first"))
    engine.open(SessionSpec("broken", "first"))
    plan = plan_of(
        frame_of("stranger", 1, picture()),
        frame_of("broken", 2, np.zeros((0, 0, 3), dtype=np.uint8)),
        frame_of("good", 3, picture()),
    )
    stranger, broken, good = engine.step(plan)
    assert stranger.labels is None and "not open" in stranger.failure.detail
    assert broken.labels is None and broken.failure.detail
    assert good.failure is None and good.labels.shape == (96, 128)
    engine.release("good")
    engine.release("broken")


def test_frames_that_come_as_bytes_are_computed_like_pixels(engine):
    whole = encode(photo(128, 96), 95)
    cut = whole[: len(whole) // 2] + b"\xff\xd9"
    for name in ("bytes", "cut", "pixels"):
        engine.open(SessionSpec(name, "first"))
    sent = {name: Picture(128, 96, (64, 48), data=data) for name, data in (("bytes", whole), ("cut", cut))}
    sent["pixels"] = decode_picture(sent["bytes"])
    plan = plan_of(*(Frame(name, 4, sent[name]) for name in ("bytes", "cut", "pixels")))
    found, bad, expected = engine.step(plan)
    assert found.labels.shape == (48, 64) and np.array_equal(found.labels, expected.labels)
    with pytest.raises(BadFrame) as caught:
        decode_picture(sent["cut"])
    assert bad.failure == caught.value.failure and bad.labels is None
    assert (bad.session_id, bad.frame_id) == ("cut", 4)
    (alone,) = engine.step(plan_of(Frame("cut", 5, sent["cut"])))
    assert alone.failure == bad.failure and engine.report().tiles == 0
    for name in ("bytes", "cut", "pixels"):
        engine.release(name)


def test_unknown_models_are_refused_by_name(engine):
    with pytest.raises(EngineError, match="first, second"):
        engine.open(SessionSpec("s", "third"))
    with pytest.raises(EngineError, match="nosuch"):
        create_engine(EngineOptions(("nosuch",), device="cpu"))


def test_release_is_idempotent(engine):
    engine.open(SessionSpec("s", "first"))
    engine.release("s")
    engine.release("s")
    engine.release("never opened")


def test_two_models_of_one_name_are_refused(tmp_path):
    paths = [write_weights(tmp_path / folder / "same.safetensors") for folder in ("a", "b")]
    with pytest.raises(EngineError, match="two models are called 'same'"):
        create_engine(EngineOptions(tuple(map(str, paths)), device="cpu", precision="fp32"))


def test_the_report_counts_tiles_pages_and_evictions(tmp_path):
    weights = write_weights(tmp_path / "one.safetensors")
    options = EngineOptions(
        (str(weights),), device="cpu", precision="fp32", store_bytes=3 << 20, gate="budget"
    )
    engine = create_engine(options)
    assert engine.report().store_bytes == 0 < engine.report().store_limit_bytes <= 3 << 20
    capacity = engine.report().store_limit_pages // len(engine._models["one"].features.store.pools)
    image = picture(64 * capacity, 64)  # as many bins as there is room for
    for name in ("a", "b"):
        engine.open(SessionSpec(name, "one"))
        (outcome,) = engine.step(plan_of(frame_of(name, 1, image), budget=0.5))
        computed = outcome.stats.units_by_stride.values()
        assert sum(count for count, _ in computed) == outcome.stats.units_computed
        assert sum(total for _, total in computed) == outcome.stats.units_total
        report = engine.report()
        assert report.tiles == capacity and report.evictions == (name == "b")
        assert (report.store_pages, report.store_bytes) == (
            report.store_limit_pages,
            report.store_limit_bytes,
        )
    engine.release("a")
    engine.release("b")
    assert engine.report().store_pages == engine.report().store_bytes == 0
    assert engine.report().device == "cpu" and engine.report().device_memory_bytes is None
    engine.close()
