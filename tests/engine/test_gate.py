"""Gates that need no training: what they compute, how much of it, and in what order."""

import math
from dataclasses import replace
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from support.batches import asked, joined, only, question, signals_of, with_signals
from support.gates import make_gate, random_cells
from tilestream.engine.gates.gate import GateDecision, first_bins
from tilestream.engine.gates.registry import GATES
from tilestream.engine.gates.rules import BudgetGate, EveryKGate, score

UNITS = 3
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 10))


def bins_of(distortion, age=None, peak=None, scene_cut=False):
    """A frame's signals, with a peak that is the mean unless it is given."""
    distortion = np.asarray(distortion, dtype=np.float32)
    known = {"peak": distortion if peak is None else peak, "age": 0 if age is None else age}
    return signals_of(distortion.shape, scene_cut, distortion=distortion, **known)


def frame_of(signals, budget=0.25, since_whole=1, credit=0.0):
    rows, columns = signals.age.shape[1:]
    cells = random_cells(0, (4 * rows, 4 * columns))
    return question(signals, UNITS, cells, budget=budget, since_whole=since_whole, credit=credit)


def maps(shape, high=100):
    """Multiples of 1/8: there are ties among them, and no rounding when they are scaled."""
    return hnp.arrays(np.float32, shape, elements=st.integers(0, 8 * high).map(lambda value: value / 8))


@st.composite
def frames(draw):
    shape = draw(SHAPES)
    distortion, age = draw(maps(shape)), draw(maps(shape, 60))
    signals = bins_of(distortion, age, distortion + draw(maps(shape)))
    return frame_of(signals, draw(st.floats(0.01, 1.0)), draw(st.integers(1, 50)), draw(st.floats(-1, 2)))


def kept(gate, frame):
    """The bins of one frame that are computed, bool [bins_h, bins_w]."""
    return only(gate.decide(frame).keep)[0]


@pytest.mark.parametrize("name", GATES)
@given(frames())
def test_what_every_gate_keeps_to(name, frame):
    decision = make_gate(name).decide(frame)
    bins = frame.signals.age.shape[1:]
    assert decision.keep.shape == (1, UNITS, *bins) and decision.keep.dtype == torch.bool
    keep = only(decision.keep)
    assert (keep == keep[0]).all()
    if not GATES[name].reuses_features:
        assert keep.all() or not keep.any()
    if name == "budget":
        assert keep[0].sum() <= max(1, frame.budget.item() * keep[0].size + 1e-3)
    else:
        assert keep.mean() <= max(0, frame.credit.item()) + 1e-6
    # nothing is remembered: the same input, the same answer
    assert torch.equal(make_gate(name).decide(frame).keep, decision.keep)


@pytest.mark.parametrize("name", GATES)
@given(frames())
def test_a_scene_cut_is_a_whole_frame(name, frame):
    cut = replace(frame.signals, scene_cut=torch.tensor([True]))
    assert make_gate(name).decide(replace(frame, signals=cut)).keep.all()


BUDGETS = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=10)


def whole_frames(gate, budgets, count):
    """Which of ``count`` frames after a whole frame are whole frames: bool [count, N] of N sessions."""
    budget = torch.tensor(budgets, dtype=torch.float64)
    frames = question(joined([bins_of(np.zeros((1, 2)))] * len(budgets)), UNITS, budget=budget)
    credit, since, wholes = torch.zeros_like(budget), torch.ones(len(budgets)), []
    for _ in range(count):
        whole = gate.decide(asked(frames, credit=credit + budget, since_whole=since)).keep.flatten(1).all(1)
        credit = (credit + budget - whole.double()).clamp(-1.0, 1.0)
        since = torch.where(whole, 1, since + 1)
        wholes.append(whole)
    return torch.stack(wholes).numpy()


@given(st.integers(1, 40), BUDGETS)
@settings(max_examples=30)
def test_every_k_ignores_the_budget_if_told_k(k, budgets):
    assert (whole_frames(EveryKGate(k), budgets, 5 * k).sum(axis=0) == 5).all()


def test_every_k_meets_the_budgets_it_can_meet():
    wholes = whole_frames(EveryKGate(), [1 / k for k in range(1, 61)], 4 * 60)
    assert all(wholes[: 4 * k, k - 1].sum() == 4 for k in range(1, 61))


@given(BUDGETS)
@settings(max_examples=20)
def test_every_k_spends_its_budget(budgets):
    wholes = whole_frames(EveryKGate(), budgets, 400).sum(axis=0)
    assert np.abs(wholes - 400 * np.array(budgets)).max() <= 1.5


@pytest.mark.parametrize(("budget", "k"), [(1.0, 1), (0.8, 2), (0.75, 2), (0.5, 2), (0.25, 4), (0.01, 100)])
def test_every_k_for_known_budgets(budget, k):
    wholes = whole_frames(EveryKGate(), [budget], k)
    assert not wholes[:-1].any() and wholes[-1] == [True]


@given(st.floats(0.02, 0.98), st.floats(0, 1, exclude_max=True))
def test_every_k_begins_where_its_session_does(budget, phase):
    """So that sessions that begin together do not compute whole frames together."""
    gate, frame = EveryKGate(), frame_of(bins_of([[1.0, 2.0]]), budget)
    due = (bool(gate.decide(asked(frame, credit=phase + n * budget)).keep.all()) for n in range(1, 100))
    assert 1 + list(due).index(True) == max(1, math.ceil((1.0 - phase) / budget - 1e-5))


def test_every_k_waits_until_a_whole_frame_is_within_the_limit():
    frame = frame_of(bins_of([[1.0, 2.0]]), credit=1.0, since_whole=9)
    for gate in (EveryKGate(), EveryKGate(3)):
        assert [bool(gate.decide(asked(frame, limit=n)).keep.any()) for n in (0.0, 0.99, 1.0)] == [0, 0, 1]


@pytest.mark.parametrize("k", [0, -1])
def test_every_k_refuses_what_cannot_be(k):
    with pytest.raises(ValueError, match="impossible"):
        EveryKGate(k)


@given(frames())
def test_budget_is_met_exactly(frame):
    bins = frame.signals.age.numel()
    expected = max(1, floor(frame.budget.item() * bins + 1e-6))
    assert kept(BudgetGate(), frame).sum() == expected


@given(SHAPES, st.integers(0, 80))
def test_a_budget_of_so_many_bins_buys_them(shape, wanted):
    bins = shape[0] * shape[1]
    wanted = min(wanted, bins)
    keep = kept(BudgetGate(), frame_of(bins_of(np.zeros(shape)), wanted / bins))
    assert keep.sum() == wanted
    assert keep.all() == (wanted == bins)


@given(frames())
def test_budget_takes_the_highest_scores(frame):
    keep = kept(BudgetGate(max_age=1000), frame)
    scores = only(score(frame.signals))
    if not keep.all():
        assert scores[keep].min() >= scores[~keep].max()


@given(frames(), st.floats(0.1, 10.0))
def test_budget_does_not_depend_on_the_unit_of_the_score(frame, gain):
    gain = 2.0 ** round(gain)  # powers of two round nothing
    s = frame.signals
    scaled = replace(s, distortion=s.distortion * gain, peak=s.peak * gain)
    plain, other = BudgetGate(), BudgetGate(age_weight=gain)
    scaled_frame = replace(frame, signals=scaled)
    assert torch.equal(plain.decide(frame).keep, other.decide(scaled_frame).keep)


def test_ties_go_to_the_first_position():
    keep = kept(BudgetGate(), frame_of(bins_of(np.full((2, 4), 5.0)), 0.5))
    assert np.array_equal(keep, [[True] * 4, [False] * 4])


def test_score_weighs_age_and_peak():
    signals = bins_of([[10.0]], age=[[4.0]], peak=[[20.0]])
    assert score(signals, age_weight=0, peak_weight=0)[0, 0, 0] == 10
    assert score(signals, age_weight=0.5, peak_weight=0)[0, 0, 0] == 12
    assert score(signals, age_weight=0, peak_weight=0.25)[0, 0, 0] == 12.5
    assert score(signals, age_weight=0, peak_weight=1)[0, 0, 0] == 20


def test_overdue_bins_come_first_and_the_oldest_of_them_before_others():
    distortion = [[90.0, 80.0, 0.0, 0.0, 0.0, 0.0]]
    age = [[1.0, 1.0, 31.0, 40.0, 30.0, 33.0]]
    signals = bins_of(distortion, age)
    order = [kept(BudgetGate(max_age=30), frame_of(signals, n / 6))[0] for n in range(1, 6)]
    added = [int(np.flatnonzero(b & ~a)[0]) for a, b in zip([np.zeros(6, bool), *order], order, strict=False)]
    assert added == [3, 5, 2, 0, 1]


@given(st.integers(1, 6), st.integers(1, 8), st.floats(0.03, 1.0), st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=30)
def test_no_bin_gets_older_than_refresh_allows(rows, columns, budget, max_age, seed):
    """Of four sessions."""
    rng = np.random.default_rng(seed)
    gate, bins = BudgetGate(age_weight=0.0, max_age=max_age), rows * columns
    count = max(1, floor(budget * bins + 1e-6))
    frames = question(joined([bins_of(np.zeros((rows, columns)))] * 4), UNITS, budget=budget)
    age = torch.from_numpy(rng.integers(0, max_age + 1, (4, rows, columns))).float()
    # a few bins always have more distortion than all others
    hot = np.where(rng.random((4, rows, columns)) < budget, 200.0, 0.0)
    for _ in range(3 * (max_age + bins)):
        age += 1
        distortion = torch.from_numpy(hot + rng.random((4, rows, columns))).float()
        keep = gate.decide(with_signals(frames, distortion=distortion, peak=distortion, age=age)).keep[:, 0]
        age[keep] = 0
        assert age.max() <= max_age + -(-bins // count)


@pytest.mark.parametrize("name", GATES)
def test_no_budget_no_bins(name):
    signals = bins_of(np.full((2, 2), 50.0))
    assert not make_gate(name).decide(frame_of(signals, 0.0, 99)).keep.any()
    assert not make_gate(name).decide(frame_of(signals, 0.0, 99, credit=1.0)).keep.any()


def test_gates_take_settings():
    signals = bins_of([[5.0, 0.0]], age=[[0.0, 9.0]])
    assert kept(EveryKGate(k=3), frame_of(signals, 1.0, 2)).sum() == 0
    assert kept(BudgetGate(age_weight=0.0), frame_of(signals, 0.5)).tolist() == [[True, False]]
    older = BudgetGate(age_weight=0.0, max_age=8.0)
    assert kept(older, frame_of(signals, 0.5)).tolist() == [[False, True]]


# What gates are made of


@given(st.data())
def test_the_first_bins_are_those_that_sorting_puts_first(data):
    count, rows, columns = (data.draw(st.integers(1, most)) for most in (4, 5, 6))
    few = st.sampled_from([-2.0, -0.0, 0.0, 0.5, float("inf")]) | st.floats(-1, 1, width=32)
    keys = [
        data.draw(hnp.arrays(np.float32, (count, rows, columns), elements=few, fill=st.just(0.0)))
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    counts = data.draw(st.lists(st.integers(0, rows * columns + 1), min_size=count, max_size=count))
    found = first_bins(tuple(torch.from_numpy(key) for key in keys), torch.tensor(counts))
    assert found.dtype == torch.bool and found.shape == (count, rows, columns)
    for frame in range(count):
        flat = [key[frame].ravel().tolist() for key in keys]
        order = sorted(range(rows * columns), key=lambda position: [key[position] for key in flat])
        expected = np.zeros(rows * columns, dtype=np.bool_)
        expected[order[: counts[frame]]] = True
        assert np.array_equal(found[frame].numpy(), expected.reshape(rows, columns))


def test_decisions_are_of_every_frame_and_unit():
    signals = joined([bins_of(np.zeros((2, 3)))] * 3)
    frames = question(signals, UNITS)
    bins = torch.rand((3, 2, 3)) < 0.5
    decision = GateDecision.of_bins(frames, bins)
    assert decision.keep.shape == (3, UNITS, 2, 3)
    assert all(torch.equal(decision.keep[:, unit], bins) for unit in range(UNITS)) and decision.risk is None
    whole = GateDecision.whole_or_nothing(frames, torch.tensor([True, False, True]), bins.float())
    assert [bool(each.all()) for each in whole.keep] == [True, False, True]
    assert [bool(each.any()) for each in whole.keep] == [True, False, True]
    assert torch.equal(whole.risk, bins.float())


def test_who_has_saved_up_for_a_whole_frame():
    frames = asked(frame_of(bins_of([[0.0]])), credit=0.0)
    cases = [
        ({"budget": 0.5, "credit": 1.0}, True),
        ({"budget": 1 / 3, "credit": 1 / 3 + 1 / 3 + 1 / 3 - 1e-9}, True),
        ({"budget": 0.5, "credit": 0.99}, False),
        ({"budget": 0.0, "credit": 2.0}, False),
        ({"budget": 0.5, "credit": 2.0, "limit": 0.99}, False),
    ]
    for figures, expected in cases:
        assert asked(frames, **figures).pays_for_whole().tolist() == [expected]
