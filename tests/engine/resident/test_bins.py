"""Gates that reuse features on the resident engine, against the engine of the host."""

from dataclasses import replace

import numpy as np
import pytest

from support.resident import TRAINED, drift, engine_pair, make_resident, street
from support.reuse_engines import NEVER, Ask, run
from tilestream.label_runs import label_map

EXACT = ("whole", "units_computed", "units_total", "macs", "budget", "units_by_stride", "agreement_pixels")


def alike(ours, theirs):
    """Share of pixels that both label the same."""
    return float((label_map(ours.labels) == label_map(theirs.labels)).mean())


def each_frame(pair, asked):
    """Outcomes of both engines, frame by frame."""
    for ask in asked:
        (ours,), (theirs,) = (run(engine, [ask]) for engine in pair)
        yield ours, theirs


def check_accounts(ours, theirs):
    """What was computed is the same, what is known of the bins nearly so."""
    mine, other = ours.stats, theirs.stats
    for name in EXACT:
        assert getattr(mine, name) == getattr(other, name), name
    assert mine.mean_distortion == pytest.approx(other.mean_distortion, abs=0.1)
    assert (mine.agreement is None) == (other.agreement is None)
    assert (mine.agreement or 0.0) == pytest.approx(other.agreement or 0.0, abs=0.005)
    assert mine.agreement_age == pytest.approx(other.agreement_age, abs=0.1)
    assert np.array_equal(ours.bins.units_computed, theirs.bins.units_computed)
    assert ours.bins.units_computed.dtype == theirs.bins.units_computed.dtype == np.uint16
    assert np.allclose(ours.bins.distortion, theirs.bins.distortion, atol=0.3)
    assert np.abs(ours.bins.age.astype(int) - theirs.bins.age).max() <= 1


def masks(engine, size, frames, seed=0):
    """What is forced of each frame: bins, units, nothing, everything, in turns; the first is whole anyway."""
    random = np.random.default_rng(seed)
    bins, units = engine.program.bins(*size), len(engine.program.units)
    kinds = (
        lambda: random.random(bins) < 0.4,
        lambda: random.random((units, *bins)) < 0.4,
        lambda: False,
        lambda: True,
    )
    return [None, *(kinds[index % len(kinds)]() for index in range(frames - 1))]


@pytest.mark.parametrize("name", ["dilated", "pooled", TRAINED])
def test_the_same_masks_give_the_answers_and_accounts_of_the_host(name):
    images = street() if name == TRAINED else drift(9, 57, 83)
    pair = engine_pair(name, "budget", dense_above=NEVER)
    kept = masks(pair[0], images[0].shape[:2], len(images))
    asked = [
        Ask("s", image, budget=0.3, keep=keep, confidence=True)
        for image, keep in zip(images, kept, strict=True)
    ]
    for ours, theirs in each_frame(pair, asked):
        assert alike(ours, theirs) > 0.999
        assert np.abs(ours.confidence.astype(int) - theirs.confidence).mean() < 0.1
        check_accounts(ours, theirs)
        assert ours.stats.stage_seconds.keys() >= {"decode", "backbone", "head"}
    ours, theirs = (engine._sessions["s"] for engine in pair)
    assert ours.credit.balance == pytest.approx(theirs.credit.balance)
    assert pair[0].tiles == pair[1].tiles == ours_bins(pair[0], images[0])


def ours_bins(engine, image):
    rows, columns = engine.program.bins(*image.shape[:2])
    return rows * columns


@pytest.mark.parametrize("gate", ["budget", "learned_spread"])
def test_gates_decide_as_on_the_host(gate):
    pair, images = engine_pair(TRAINED, gate), street()
    same, bins, partial = 0, 0, 0
    for ours, theirs in each_frame(pair, [Ask("s", image, budget=0.34) for image in images]):
        assert ours.stats.whole == theirs.stats.whole
        assert alike(ours, theirs) > 0.98
        same += int((ours.bins.units_computed == theirs.bins.units_computed).sum())
        bins += ours.bins.units_computed.size
        partial += not ours.stats.whole and ours.stats.units_computed > 0
    assert same > 0.95 * bins and partial >= 4
    ours, theirs = (engine._sessions["s"] for engine in pair)
    assert ours.credit.balance == pytest.approx(theirs.credit.balance, abs=0.1)
    assert ours.calibration.scale == pytest.approx(theirs.calibration.scale, rel=0.1)
    if gate == "learned_spread":
        assert ours.calibration.scale != 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {3: {"limit": 0.1}, 4: {"limit": 0.1}, 5: {"limit": 0.6}},
        {2: {"budget": 1.0}, 3: {"budget": 0.0}, 4: {"budget": 0.05}},
        {0: {"keep": False}, 2: {"whole": True}, 5: {"whole": True, "keep": False}},
        {2: {"keep": True}, 4: {"keep": np.arange(20).reshape(4, 5) < 16}},
    ],
    ids=["limited", "other budgets", "requested", "so much that all is computed"],
)
def test_what_is_granted_and_asked_for_is_done_as_on_the_host(changes):
    pair = engine_pair("dilated", "budget")
    asked = [Ask("s", image, **{"budget": 0.3, **changes.get(i, {})}) for i, image in enumerate(drift())]
    for ours, theirs in each_frame(pair, asked):
        assert ours.stats.whole == theirs.stats.whole
        assert ours.stats.units_computed == theirs.stats.units_computed
        assert alike(ours, theirs) > 0.9  # now and then another bin is computed


def test_scores_of_features_are_not_fused():
    plain, fused = (make_resident("dilated", "budget", fusion=fusion) for fusion in (0.0, 0.5))
    for image in drift(4):
        (expected,), (got,) = (run(e, [Ask("s", image, budget=0.3, whole=True)]) for e in (plain, fused))
        assert np.array_equal(label_map(got.labels), label_map(expected.labels))
    assert fused._layout((64, 80)).scores[0] == 0


def test_confidence_asked_for_later_begins_anew_and_is_that_of_the_host():
    pair = engine_pair("dilated", "budget", dense_above=NEVER)
    half = np.arange(20).reshape(4, 5) % 2 == 0
    asked = [Ask("s", image, budget=0.3, keep=half, confidence=i >= 2) for i, image in enumerate(drift(6))]
    for index, (ours, theirs) in enumerate(each_frame(pair, asked)):
        assert ours.stats.whole == theirs.stats.whole == (index in (0, 2))
        assert alike(ours, theirs) > 0.999
        assert (ours.confidence is None) == (index < 2)
        if ours.confidence is not None:
            assert np.abs(ours.confidence.astype(int) - theirs.confidence).mean() < 0.1


def test_sessions_with_and_without_confidence_share_a_step():
    engine, host = engine_pair("dilated", "budget", dense_above=NEVER)
    random = np.random.default_rng(1)
    for images in zip(*(drift(5, seed=seed) for seed in range(3)), strict=True):
        asked = [
            Ask(f"s{index}", image, budget=0.3, keep=random.random((4, 5)) < 0.5, confidence=index == 1)
            for index, image in enumerate(images)
        ]
        for ours, theirs in zip(run(engine, asked), run(host, asked), strict=True):
            assert alike(ours, theirs) > 0.999
            check_accounts(ours, replace(theirs, confidence=None))
            if ours.confidence is not None:
                assert np.abs(ours.confidence.astype(int) - theirs.confidence).mean() < 0.1
