"""The learned gate: deterministic, within its budget, and nothing computed where nothing would be wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.batches import asked, joined, only, question, signals_of, together, with_signals
from support.frames import photo
from support.gates import make_gate, random_cells, risk_net
from support.reuse_engines import NEVER, network
from tilestream.engine.gates.gate import GateInput
from tilestream.engine.gates.learned import MAX_AGE, LearnedGate
from tilestream.engine.gates.still import CHECK_AFTER
from tilestream.engine.streaming import StreamingSegmenter

BINS = (3, 4)


def frame_of(seed: int, credit: float, *, scene_cut: bool = False, pixels: float = 5.0) -> GateInput:
    """A frame that moves by so many pixels."""
    signals = signals_of(BINS, scene_cut, motion=pixels)
    return question(signals, cells=random_cells(seed, (11, 15)), budget=0.3, credit=credit)


def risk_of(gate: LearnedGate, frame: GateInput) -> np.ndarray:
    return only(gate.risk(frame, [0]))


def keeps(gate: LearnedGate, frame: GateInput) -> np.ndarray:
    """Bool [units, bins_h, bins_w] of one frame."""
    return only(gate.decide(frame).keep)


@pytest.mark.parametrize("spread", [False, True])
def test_the_same_frame_is_decided_in_the_same_way(spread):
    gates = [LearnedGate(risk_net(), 64, spread=spread) for _ in range(2)]
    first, second, again = (keeps(gate, frame_of(1, 1.0)) for gate in (*gates, gates[0]))
    assert np.array_equal(first, second) and np.array_equal(first, again)


@given(st.integers(0, 99), st.floats(-1, 2), st.floats(0, 1))
def test_more_credit_never_keeps_less_nor_more_than_it_pays_for(seed, credit, more):
    for spread in (False, True):
        gate = LearnedGate(risk_net(), 64, spread=spread, quiet=0.0)
        few, many = (keeps(gate, frame_of(seed, c)) for c in (credit, credit + more))
        assert not (few & ~many).any()
        assert few.mean() <= max(credit, 0) + 1e-6


def test_the_riskiest_bins_come_first():
    gate = LearnedGate(risk_net(3), 64, spread=True, quiet=0.0)
    frame = frame_of(5, 0.25)
    risk = risk_of(gate, frame)
    keep = keeps(gate, frame)[0]
    assert keep.sum() == 3 and risk[keep].min() >= risk[~keep].max()


@given(st.integers(0, 20), st.floats(0.0, 1.0), st.floats(0.0, 0.9))
def test_bins_that_are_worth_it_are_computed_as_far_as_the_credit_goes(seed, credit, share):
    frame = frame_of(seed, credit)
    risk = risk_of(make_gate("learned_spread"), frame)
    quiet = float(risk.min() + share * (risk.mean() - risk.min()))  # so that the frame is not quiet
    keep = keeps(LearnedGate(risk_net(), 64, spread=True, quiet=quiet), frame)[0]
    worth = risk >= np.float32(quiet)
    assert keep.sum() == min(int(credit * keep.size + 1e-6), np.count_nonzero(worth))
    assert not (keep & ~worth).any()
    if keep.any() and not keep.all():
        assert risk[keep].min() >= risk[~keep].max()


def test_a_bin_at_the_edge_counts_only_what_lies_in_the_frame():
    gate = LearnedGate(risk_net(), 64)
    frame = frame_of(2, 1.0)
    expected = only(risk_net().risk(frame.cells([0])))[8:11, 12:15].mean()
    assert risk_of(gate, frame)[2, 3] == pytest.approx(expected)


def test_the_network_is_not_asked_where_nothing_can_be_paid_for():
    def unwanted(which):
        raise AssertionError("1.5 ms for nothing")

    gate = LearnedGate(risk_net(), 64)
    decision = gate.decide(replace(frame_of(0, 0.9), cells=unwanted))
    assert not decision.keep.any() and not decision.risk.any()  # it has not judged
    with pytest.raises(AssertionError):
        gate.decide(replace(frame_of(0, 1.0), cells=unwanted))


@pytest.mark.parametrize("spread", [False, True])
def test_the_network_is_asked_only_about_frames_for_which_it_matters(spread):
    moving, cut, standing = frame_of(0, 1.0), frame_of(1, 1.0, scene_cut=True), frame_of(2, 1.0, pixels=0.3)
    unpaid, poor = asked(frame_of(3, 1.0), budget=0.0), frame_of(4, 0.9)
    frames, wanted = together([standing, moving, unpaid, cut, poor, moving]), []
    given = frames.cells
    gate = LearnedGate(risk_net(), 64, spread=spread)
    decision = gate.decide(replace(frames, cells=lambda which: wanted.extend(which) or given(which)))
    assert wanted == ([1, 4, 5] if spread else [1, 5])
    judged = [bool(each.any()) for each in decision.risk]
    assert judged == [index in wanted for index in range(6)]
    computed = [bool(each.any()) for each in decision.keep]
    assert computed == [False, True, False, True, spread, True]
    assert decision.keep[3].all()


def test_nothing_is_computed_where_nothing_would_be_wrong():
    for spread in (False, True):
        gate = LearnedGate(risk_net(), 64, spread=spread, quiet=1.1)
        assert not keeps(gate, frame_of(0, 1.0)).any()
        assert keeps(gate, frame_of(0, 0.0, scene_cut=True)).all()


@pytest.mark.parametrize("spread", [False, True])
def test_nothing_is_computed_where_nothing_moves_or_changes(spread):
    gate = LearnedGate(risk_net(), 64, spread=spread)
    standing = frame_of(0, 1.0, pixels=0.3)
    assert keeps(gate, frame_of(0, 1.0)).any() and not keeps(gate, standing).any()
    assert not risk_of(gate, standing).any()
    changed = np.zeros(BINS, dtype=np.float32)
    changed[1, 2] = 20.0  # such as a pedestrian in front of the car
    decision = gate.decide(with_signals(standing, distortion=changed))
    assert np.argwhere(only(decision.risk)).tolist() == [[1, 2]] and decision.keep[0, 0, 1, 2]


@pytest.mark.parametrize("spread", [False, True])
def test_a_quiet_scene_is_checked_now_and_then_as_far_as_the_credit_goes(spread):
    gate = LearnedGate(risk_net(), 64, spread=spread)
    age = np.full(BINS, CHECK_AFTER + 1, dtype=np.float32)
    assert keeps(gate, with_signals(frame_of(0, 1.0, pixels=0), age=age)).all()
    few = keeps(gate, with_signals(frame_of(0, 0.26, pixels=0), age=age)).mean()
    assert few == (0.25 if spread else 0)


def test_an_unmoved_scene_is_averaged_ever_more_rarely():
    gate = LearnedGate(risk_net(), 64)
    standing = frame_of(0, 1.0, pixels=0)
    ages = torch.arange(100.0)[:, None, None].expand(-1, *BINS)
    frames = with_signals(together([standing] * 100), age=ages)
    waits = []
    for averaged in range(1, 7):
        computed = gate.decide(asked(frames, averaged=averaged)).keep.flatten(1).all(dim=1)
        waits.append(int(np.argmax(computed.numpy())))
    assert waits == [9, 17, 33, 65, 65, 65]
    early = with_signals(asked(standing, averaged=1, credit=0.9), age=np.full(BINS, 20, np.float32))
    assert not keeps(gate, early).any()  # only as far as the credit goes


@pytest.mark.parametrize("spread", [False, True])
def test_the_scale_moves_the_threshold_and_is_not_in_the_risk_that_is_told(spread):
    frame = frame_of(0, 1.0)
    risk = risk_of(LearnedGate(risk_net(), 64), frame).mean()
    gate = LearnedGate(risk_net(), 64, spread=spread, quiet=2 * float(risk))
    decision = gate.decide(asked(together([frame] * 3), risk_scale=[1.0, 3.0, 0.5]))
    for index, computes in enumerate((False, True, False)):
        assert decision.keep[index].any() == computes
        assert decision.risk[index].mean().item() == pytest.approx(risk)


def classes_of(module: torch.nn.Module) -> int:
    with torch.no_grad():
        return module(torch.zeros(1, 3, 64, 64)).shape[1]


def test_a_standing_car_costs_nothing_and_a_driving_one_does():
    module = network("split")
    gate = LearnedGate(risk_net(0, classes_of(module)), 16, quiet=1e-6)
    segment = StreamingSegmenter(module, 16, 0.5, gate=gate)
    scene = photo(64 + 40, 64, 0)
    random = np.random.default_rng(0)
    standing = [
        np.clip(scene[:, :64] + random.normal(0, 1.5, (64, 64, 1)), 0, 255).astype(np.uint8)
        for _ in range(20)
    ]
    assert sum(segment(image)[1].whole for image in standing) == 2  # the first, and a second look
    driving = [np.ascontiguousarray(scene[:, left : left + 64]) for left in range(2, 42, 2)]
    assert sum(segment(image)[1].whole for image in driving) >= 8


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("budget", [0.1, 0.25, 0.4])
def test_the_budget_is_kept_over_a_clip(spread, budget):
    module = network("split")
    gate = LearnedGate(risk_net(0, classes_of(module)), 16, spread=spread, quiet=0.0)
    segment = StreamingSegmenter(module, 16, budget, gate=gate, dense_above=NEVER)
    scene = photo(64 + 202, 64, 0)
    drive = [np.ascontiguousarray(scene[:, left : left + 64]) for left in range(0, 202, 2)]
    segment(drive[0])
    computed = [1 - segment(image)[1].block_drop_rate for image in drive[1:]]
    start = 1.0 / 100  # the first frame is computed in full whatever the budget
    assert budget - start - 0.02 <= np.mean(computed) <= budget + 0.02


def test_old_bins_come_before_all_others():
    gate = LearnedGate(risk_net(3), 64, spread=True, quiet=0.0)
    frame = frame_of(5, 0.17)  # pays for two
    age = np.zeros(BINS, dtype=np.float32)
    lowest = np.unravel_index(risk_of(gate, frame).argmin(), BINS)
    age[lowest] = MAX_AGE + 1
    keep = keeps(gate, with_signals(frame, age=age))[0]
    assert keep.sum() == 2 and keep[lowest]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_what_the_network_says_of_a_frame_does_not_depend_on_who_comes_with_it(seeds):
    cells = [random_cells(seed, (23, 31)) for seed in seeds]
    found = risk_net().risk(joined(cells))
    assert found.dtype == torch.float32 and ((found >= 0) & (found <= 1)).all()
    assert torch.equal(found, torch.cat([risk_net().risk(each) for each in cells]))


def test_a_gate_that_is_told_of_no_cells_says_so():
    with pytest.raises(ValueError, match="needs the frame's cells"):
        make_gate("learned").decide(replace(frame_of(0, 1.0), cells=None))
