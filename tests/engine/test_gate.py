"""Gates: what they compute, how much of it, and in what order."""

import dataclasses
import math
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tilestream.engine.gates.gate import (
    GATES,
    BudgetGate,
    EveryKGate,
    GateInput,
    ThresholdGate,
    make_gate,
    score,
)
from tilestream.engine.motion.distortion import BinSignals

UNITS = 3
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 10))


def signals_of(distortion, age=None, peak=None, scene_cut=False):
    distortion = np.asarray(distortion, dtype=np.float32)
    zero = np.zeros_like(distortion)
    return BinSignals(
        distortion=distortion,
        current=zero,
        peak=distortion if peak is None else np.asarray(peak, dtype=np.float32),
        age=zero if age is None else np.asarray(age, dtype=np.float32),
        motion=zero,
        occluded=zero,
        scene_cut=scene_cut,
    )


def frame_of(signals, budget=0.25, frames_since_key=1):
    return GateInput(signals, budget, frames_since_key, UNITS)


def maps(shape, high=100):
    """Multiples of 1/8: there are ties among them, and no rounding when they are scaled."""
    return hnp.arrays(np.float32, shape, elements=st.integers(0, 8 * high).map(lambda value: value / 8))


@st.composite
def frames(draw):
    shape = draw(SHAPES)
    distortion, age = draw(maps(shape)), draw(maps(shape, 60))
    signals = signals_of(distortion, age, distortion + draw(maps(shape)))
    return frame_of(signals, draw(st.floats(0.01, 1.0)), draw(st.integers(1, 50)))


@pytest.mark.parametrize("name", GATES)
@given(frames())
def test_what_every_gate_keeps_to(name, frame):
    decision = make_gate(name).decide(frame)
    bins = frame.signals.age.shape
    assert decision.keep.shape == (UNITS, *bins) and decision.keep.dtype == np.bool_
    assert (decision.keep == decision.keep[0]).all()
    assert decision.key_frame == decision.keep.all()
    if name != "every_k":
        assert decision.keep[0].sum() <= max(1, frame.budget * decision.keep[0].size + 1e-3)
    # nothing is remembered: the same input, the same answer
    assert np.array_equal(make_gate(name).decide(frame).keep, decision.keep)


@pytest.mark.parametrize("name", GATES)
@given(frames())
def test_a_scene_cut_is_a_key_frame(name, frame):
    cut = dataclasses.replace(frame.signals, scene_cut=True)
    decision = make_gate(name).decide(dataclasses.replace(frame, signals=cut))
    assert decision.key_frame and decision.keep.all()


def key_frames(gate, budget, count):
    """How many of ``count`` frames after a key frame are key frames."""
    keys, since, credit = 0, 1, 0.0
    for _ in range(count):
        known = dataclasses.replace(
            frame_of(signals_of(np.zeros((1, 2))), budget, since), credit=credit + budget
        )
        key = gate.decide(known).key_frame
        credit = min(max(credit + budget - key, -1.0), 1.0)
        keys, since = keys + key, 1 if key else since + 1
    return keys


@given(st.integers(1, 40), st.floats(0.01, 1.0))
def test_every_k_ignores_the_budget_if_told_k(k, budget):
    assert key_frames(EveryKGate(k), budget, 5 * k) == 5


@given(st.integers(1, 60))
def test_every_k_meets_the_budgets_it_can_meet(k):
    assert key_frames(EveryKGate(), 1 / k, 4 * k) == 4


@given(st.floats(0.02, 1.0))
def test_every_k_spends_its_budget(budget):
    assert abs(key_frames(EveryKGate(), budget, 400) - 400 * budget) <= 1.5


@pytest.mark.parametrize(("budget", "k"), [(1.0, 1), (0.8, 2), (0.75, 2), (0.5, 2), (0.25, 4), (0.01, 100)])
def test_every_k_for_known_budgets(budget, k):
    assert key_frames(EveryKGate(), budget, k - 1) == 0
    assert key_frames(EveryKGate(), budget, k) == 1


@given(st.floats(0.02, 0.98), st.floats(0, 1, exclude_max=True))
def test_every_k_begins_where_its_session_does(budget, phase):
    """So that sessions that begin together do not compute whole frames together."""
    gate, frame = EveryKGate(), frame_of(signals_of([[1.0, 2.0]]), budget)
    due = (
        gate.decide(dataclasses.replace(frame, credit=phase + n * budget)).key_frame for n in range(1, 100)
    )
    assert 1 + list(due).index(True) == max(1, math.ceil((1.0 - phase) / budget - 1e-5))


@pytest.mark.parametrize("k", [0, -1])
def test_every_k_refuses_what_cannot_be(k):
    with pytest.raises(ValueError, match="impossible"):
        EveryKGate(k)


@given(frames())
def test_budget_is_met_exactly(frame):
    bins = frame.signals.age.size
    expected = max(1, floor(frame.budget * bins + 1e-6))
    assert BudgetGate().decide(frame).keep[0].sum() == expected


@given(SHAPES, st.integers(0, 80))
def test_a_budget_of_so_many_bins_buys_them(shape, wanted):
    bins = shape[0] * shape[1]
    wanted = min(wanted, bins)
    decision = BudgetGate().decide(frame_of(signals_of(np.zeros(shape)), wanted / bins))
    assert decision.keep[0].sum() == wanted
    assert decision.key_frame == (wanted == bins)


@given(frames())
def test_budget_takes_the_highest_scores(frame):
    keep = BudgetGate(max_age=1000).decide(frame).keep[0]
    scores = score(frame.signals)
    if not keep.all():
        assert scores[keep].min() >= scores[~keep].max()


@given(frames(), st.floats(0.1, 10.0))
def test_budget_does_not_depend_on_the_unit_of_the_score(frame, gain):
    gain = np.float32(2.0 ** round(gain))  # powers of two round nothing
    s = frame.signals
    scaled = dataclasses.replace(s, distortion=s.distortion * gain, peak=s.peak * gain)
    plain, other = BudgetGate(), BudgetGate(age_weight=float(gain))
    scaled_frame = dataclasses.replace(frame, signals=scaled)
    assert np.array_equal(plain.decide(frame).keep, other.decide(scaled_frame).keep)


def test_ties_go_to_the_first_position():
    keep = BudgetGate().decide(frame_of(signals_of(np.full((2, 4), 5.0)), 0.5)).keep[0]
    assert np.array_equal(keep, [[True] * 4, [False] * 4])
    keep = ThresholdGate(1.0).decide(frame_of(signals_of(np.full((2, 4), 5.0)), 0.5)).keep[0]
    assert np.array_equal(keep, [[True] * 4, [False] * 4])


def test_score_weighs_age_and_peak():
    signals = signals_of([[10.0]], age=[[4.0]], peak=[[20.0]])
    assert score(signals, age_weight=0, peak_weight=0)[0, 0] == 10
    assert score(signals, age_weight=0.5, peak_weight=0)[0, 0] == 12
    assert score(signals, age_weight=0, peak_weight=0.25)[0, 0] == 12.5
    assert score(signals, age_weight=0, peak_weight=1)[0, 0] == 20


def test_overdue_bins_come_first_and_the_oldest_of_them_before_others():
    distortion = [[90.0, 80.0, 0.0, 0.0, 0.0, 0.0]]
    age = [[1.0, 1.0, 31.0, 40.0, 30.0, 33.0]]
    signals = signals_of(distortion, age)
    order = [BudgetGate(max_age=30).decide(frame_of(signals, n / 6)).keep[0, 0] for n in range(1, 6)]
    added = [int(np.flatnonzero(b & ~a)[0]) for a, b in zip([np.zeros(6, bool), *order], order, strict=False)]
    assert added == [3, 5, 2, 0, 1]


@given(st.integers(1, 6), st.integers(1, 8), st.floats(0.03, 1.0), st.integers(1, 20), st.integers(0, 5))
def test_no_bin_gets_older_than_refresh_allows(rows, columns, budget, max_age, seed):
    rng = np.random.default_rng(seed)
    gate, bins = BudgetGate(age_weight=0.0, max_age=max_age), rows * columns
    count = max(1, floor(budget * bins + 1e-6))
    age = rng.integers(0, max_age + 1, (rows, columns)).astype(np.float32)
    # a few bins always have more distortion than all others
    hot = np.where(rng.random((rows, columns)) < budget, 200.0, 0.0)
    for _ in range(3 * (max_age + bins)):
        age += 1
        keep = gate.decide(frame_of(signals_of(hot + rng.random((rows, columns)), age), budget)).keep[0]
        age[keep] = 0
        assert age.max() <= max_age + -(-bins // count)


@given(frames(), st.floats(0, 120))
def test_threshold_takes_what_is_above_it_as_far_as_the_budget_goes(frame, threshold):
    keep = ThresholdGate(threshold).decide(frame).keep[0]
    scores = score(frame.signals)
    affordable = max(1, floor(frame.budget * scores.size + 1e-6))
    assert keep.sum() == min(affordable, np.count_nonzero(scores > threshold))
    assert (scores[keep] > threshold).all()
    if keep.any() and not keep.all():
        assert scores[keep].min() >= scores[~keep].max()


def test_a_scene_at_rest_costs_the_threshold_gate_nothing():
    assert not ThresholdGate().decide(frame_of(signals_of(np.zeros((4, 4))), 1.0)).keep.any()


def test_no_budget_no_bins():
    signals = signals_of(np.full((2, 2), 50.0))
    for name in GATES:
        assert not make_gate(name).decide(frame_of(signals, 0.0, 99)).keep.any()


def test_make_gate_passes_its_settings_on():
    signals = signals_of([[5.0, 0.0]], age=[[0.0, 9.0]])
    assert make_gate("every_k", k=3).decide(frame_of(signals, 1.0, 2)).keep.sum() == 0
    assert make_gate("threshold", threshold=6.0).decide(frame_of(signals, 1.0)).keep[0].tolist() == [
        [False, True]
    ]
    assert make_gate("budget", age_weight=0.0).decide(frame_of(signals, 0.5)).keep[0].tolist() == [
        [True, False]
    ]
    older = make_gate("budget", age_weight=0.0, max_age=8.0).decide(frame_of(signals, 0.5))
    assert older.keep[0].tolist() == [[False, True]]


def test_make_gate_names_what_there_is():
    with pytest.raises(ValueError, match=r"'best'.*every_k, threshold, budget"):
        make_gate("best")
