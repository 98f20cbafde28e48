"""The resident engine against the engine of the host: the same decisions, answers and accounts."""

import numpy as np
import pytest

from support.resident import TRAINED, engine_pair, make_resident, pan, street
from support.reuse_engines import Ask, run
from tilestream.engine.resident import engine as resident_engine
from tilestream.engine.resident.runs import MOST_PIXELS
from tilestream.label_runs import label_map
from tilestream.messages import Failure, Frame, Grant, InvalidReason, Picture, SessionSpec

PIXELS = {"a": (64, 80), "b": (48, 64), "c": (64, 80), "d": (33, 50), "e": (64, 80)}


@pytest.fixture(scope="module")
def shared():
    """Engines are not made for every test: that takes longer than their steps."""
    return {}


@pytest.fixture
def pair(shared, request):
    """A resident engine and one of the host, without sessions. By default of a toy network."""
    chosen = getattr(request, "param", ("dilated", "every_k", 0.5))
    if chosen not in shared:
        name, gate, fusion = chosen
        shared[chosen] = engine_pair(name, gate, fusion=fusion)
    yield shared[chosen]
    for engine in shared[chosen]:
        for session_id in list(engine._specs):
            engine.release(session_id)


@pytest.fixture
def engine(pair):
    return pair[0]


def each_frame(pair, asked):
    """Outcomes of both engines, frame by frame."""
    for ask in asked:
        (ours,), (theirs,) = (run(engine, [ask]) for engine in pair)
        yield ours, theirs


def alike(ours, theirs):
    """Share of pixels that both label the same."""
    return float((label_map(ours.labels) == label_map(theirs.labels)).mean())


@pytest.mark.parametrize(
    "pair",
    [("dilated", "every_k", 0.0), (TRAINED, "every_k", 0.5), (TRAINED, "learned", 0.5)],
    indirect=True,
    ids=["without fusion", "every_k", "learned"],
)
def test_answers_and_accounts_are_those_of_the_host(pair, request):
    asked = [Ask("s", image, budget=0.3, confidence=True) for image in street()]
    fused = "without fusion" not in request.node.name
    kinds = set()
    for ours, theirs in each_frame(pair, asked):
        assert alike(ours, theirs) > (0.999 if ours.stats.whole and not fused else 0.995)
        assert np.abs(ours.confidence.astype(int) - theirs.confidence).mean() < 1.0
        mine, other = ours.stats, theirs.stats
        for name in ("whole", "units_computed", "units_total", "macs", "budget", "units_by_stride"):
            assert getattr(mine, name) == getattr(other, name), name
        assert mine.agreement_pixels == other.agreement_pixels
        assert mine.mean_distortion == pytest.approx(other.mean_distortion, abs=0.1)
        assert mine.agreement_age == pytest.approx(other.agreement_age, abs=0.1)
        assert (mine.agreement or 0.0) == pytest.approx(other.agreement or 0.0, abs=0.01)
        assert mine.stage_seconds.keys() >= {"decode", "backbone", "head"}
        kinds.add(mine.whole)
    assert kinds == {True, False}
    ours, theirs = (engine._sessions["s"] for engine in pair)
    assert ours.credit.with_budget(0.3) == pytest.approx(theirs.credit.with_budget(0.3))
    assert ours.calibration.scale == pytest.approx(theirs.calibration.scale, rel=0.05)


def test_bins_are_accounted_for_as_on_the_host(pair):
    for ours, theirs in each_frame(pair, [Ask("s", image, budget=0.3) for image in pan(5)]):
        mine, other = ours.bins, theirs.bins
        for name in ("bin_size", "width", "height", "units_per_bin"):
            assert getattr(mine, name) == getattr(other, name)
        assert np.array_equal(mine.units_computed, other.units_computed)
        assert mine.units_computed.dtype == other.units_computed.dtype == np.uint16
        assert np.allclose(mine.distortion, other.distortion, atol=0.3)
        assert np.abs(mine.age.astype(int) - other.age).max() <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {3: {"keep": True}, 4: {"keep": False}, 6: {"keep": False}},
        {2: {"keep": np.eye(4, 5, dtype=bool)}, 5: {"keep": np.zeros((4, 5), dtype=bool)}},
        {0: {"keep": False}, 2: {"whole": True}, 5: {"whole": True, "keep": False}},
        {3: {"limit": 0.1}, 4: {"limit": 0.1}, 5: {"limit": 0.1}},
        {2: {"budget": 1.0}, 3: {"budget": 0.0}, 4: {"budget": 0.05}},
    ],
    ids=["forced", "forced bins", "requested", "limited", "other budgets"],
)
def test_what_callers_want_is_done_as_on_the_host(pair, changes):
    asked = [Ask("s", image, **{"budget": 0.3, **changes.get(i, {})}) for i, image in enumerate(pan())]
    for ours, theirs in each_frame(pair, asked):
        assert ours.stats.whole == theirs.stats.whole
        assert alike(ours, theirs) > 0.995


def test_at_full_budget_without_retention_nothing_is_kept(pair):
    resident, host = pair
    for image in pan(4):
        asked = [Ask("s", image, budget=1.0, retain=False)]
        (ours,), (theirs,) = run(resident, asked), run(host, asked)
        assert ours.stats.whole and theirs.stats.whole
        assert alike(ours, theirs) > 0.999
        assert resident.usage().bytes == 0
    (kept,) = run(resident, [Ask("s", image, budget=0.3, retain=False)])
    assert kept.stats.whole and resident.usage().bytes > 0
    (moved,) = run(resident, [Ask("s", image, budget=0.3, retain=False)])
    assert not moved.stats.whole
    run(resident, [Ask("s", image, budget=1.0, retain=False)])
    assert resident.usage().bytes == 0


@pytest.mark.parametrize("name", ["borders", "ladder"])
def test_labels_are_those_of_the_dense_network_however_it_ends(name):
    engine, image = make_resident(name), pan()[0]
    (whole,) = run(engine, [Ask("s", image, budget=0.5, confidence=True)])
    assert (label_map(whole.labels) == engine.dense.labels(image)).mean() > 0.999
    (again,) = run(engine, [Ask("s", image, budget=0.5, keep=False, confidence=True)])
    assert np.array_equal(label_map(again.labels), label_map(whole.labels))
    assert np.array_equal(again.confidence, whole.confidence)


def test_a_gate_that_reuses_features_is_refused():
    with pytest.raises(ValueError, match="reuses features"):
        make_resident(gate="budget")


# Sessions come, go and change


def test_confidence_can_be_asked_for_later_and_given_up_in_between(pair):
    engine, host = pair
    images = pan(3)

    def frame(index, confidence, **asked):
        engine.open(SessionSpec("s", "", confidence=confidence, retain=True))
        image = images[index]
        picture = Picture(image.shape[1], image.shape[0], image.shape[1::-1], image)
        (outcome,) = engine.step([(Frame("s", index, picture), Grant(0.3))], asked)
        return outcome

    assert frame(0, False).confidence is None
    begins = frame(1, True)
    assert begins.stats.whole and begins.confidence is not None  # it begins anew
    assert frame(2, False, s=True).confidence is None
    told = frame(2, True, s=False)
    assert not told.stats.whole
    for image, confidence in zip((images[1], images[2], images[2]), (True, False, True), strict=True):
        asked = Ask("s", image, budget=0.3, keep=not confidence, confidence=True)
        (expected,) = run(host, [asked])
    # of the whole frame that was computed while nobody asked, not of the one before that
    assert np.abs(told.confidence.astype(int) - expected.confidence).mean() < 1.0


def test_another_size_begins_anew_and_the_memory_of_the_old_one_is_free(engine):
    image = pan()[0]
    run(engine, [Ask("s", image, budget=0.3)])
    before = engine.usage().bytes
    (outcome,) = run(engine, [Ask("s", image[:48, :64], budget=0.3)])
    assert outcome.stats.whole and outcome.labels.shape == (48, 64)
    assert 0 < engine.usage().bytes < before


def test_evicted_restarted_and_released_sessions_begin_with_a_whole_frame(engine):
    image = pan()[0]
    for forget in (engine.evict, engine.restart, engine.release):
        run(engine, [Ask("s", image, budget=0.3)])
        assert not run(engine, [Ask("s", image, budget=0.3)])[0].stats.whole
        forget("s")
        forget("s")
        assert engine.usage().bytes == 0
        assert run(engine, [Ask("s", image, budget=0.3)])[0].stats.whole
    engine.evict("nobody")
    assert engine.by_last_use() == ["s"]


def test_outcomes_come_in_the_order_of_the_work_whatever_the_sizes_and_kinds(engine):
    images = {name: pan(1, *size, seed=index)[0] for index, (name, size) in enumerate(PIXELS.items())}
    for budget in (0.3, 0.3, 1.0):
        outcomes = run(engine, [Ask(name, image, budget=budget) for name, image in images.items()])
        assert [outcome.session_id for outcome in outcomes] == list(PIXELS)
        assert [outcome.labels.shape for outcome in outcomes] == list(PIXELS.values())
        run(engine, [Ask("c", images["c"], whole=True)])
    assert run(engine, []) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 9), (16, 16), (65, 129)])
def test_frames_of_any_size_are_computed_and_moved(engine, size):
    images = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    outcomes = [run(engine, [Ask("s", image, budget=0.4)])[0] for image in images]
    assert [outcome.labels.shape for outcome in outcomes] == [size] * 3


# What goes wrong


def test_a_frame_that_cannot_be_used_costs_nobody_else_anything(engine, monkeypatch):
    image = pan()[0]
    failure = Failure.invalid(InvalidReason.CORRUPT, "torn")

    def decode(pictures):
        return [failure if picture.pixels is None else real([picture])[0] for picture in pictures]

    real = engine._decode
    monkeypatch.setattr(engine, "_decode", decode)
    broken = Picture(80, 64, (80, 64), data=b"?")
    for name in ("good", "bad", "fine"):
        engine.open(SessionSpec(name, "", retain=True))
    for index in range(2):
        work = [
            (Frame(name, index, broken if name == "bad" else Picture(80, 64, (80, 64), image)), Grant(0.3))
            for name in ("good", "bad", "fine")
        ]
        good, bad, fine = engine.step(work)
        assert bad.failure is failure and bad.labels is None
        assert good.failure is fine.failure is None
        assert np.array_equal(label_map(good.labels), label_map(fine.labels))
        assert good.stats.whole == (index == 0)
    assert [outcome.failure for outcome in engine.step([work[1]])] == [failure]


def test_a_frame_with_more_pixels_than_runs_can_tell_fails_alone(engine, monkeypatch):
    class Huge:
        """Stands for pixels that would take 48 MiB."""

        shape = (3, 1, MOST_PIXELS + 1)

    real = engine._decode
    monkeypatch.setattr(engine, "_decode", lambda pictures: [Huge(), *real(pictures[1:])])
    image = pan()[0]
    picture = Picture(80, 64, (80, 64), image)
    for name in ("huge", "good"):
        engine.open(SessionSpec(name, ""))
    huge, good = engine.step([(Frame("huge", 1, picture), Grant()), (Frame("good", 1, picture), Grant())])
    assert huge.failure.reason is InvalidReason.TOO_MANY_PIXELS
    assert "16777217 x 1" in huge.failure.detail
    assert good.failure is None and good.labels.shape == (64, 80)


def test_warming_up_leaves_nothing_behind(engine, monkeypatch):
    monkeypatch.setattr(resident_engine, "_COMMON_SIZE", (48, 64))
    engine.warm_up()
    assert engine.by_last_use() == [] and not engine._specs
    assert engine.usage().limit_pages == 0
