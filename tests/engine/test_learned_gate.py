"""The learned gate: deterministic, within its budget, and never with weights of another network."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import NEVER, network
from tilestream.engine.gates.cells import SIGNALS
from tilestream.engine.gates.gate import EveryKGate, GateInput
from tilestream.engine.gates.learned import CHECK_AFTER, MAX_AGE, LearnedGate, load_gate_named
from tilestream.engine.gates.risk_net import RiskNet
from tilestream.engine.gates.weights import load_gate, save_gate
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.messages import EngineError
from tilestream.models import list_models
from tilestream.models.registry import weights_path

CLASSES, BINS = 5, (3, 4)
MODEL = list_models()[0]


def risk_net(seed: int = 0, classes: int = CLASSES) -> RiskNet:
    torch.manual_seed(seed)
    return RiskNet(classes).eval()


def frame_of(seed: int, credit: float, *, scene_cut: bool = False, pixels: float = 5.0) -> GateInput:
    """A frame that moves by so many pixels."""
    zero, motion = np.zeros(BINS, dtype=np.float32), np.full(BINS, pixels, dtype=np.float32)
    cells = np.random.default_rng(seed).random((len(SIGNALS) + CLASSES, 11, 15), dtype=np.float32)
    signals = BinSignals(zero, zero, zero, zero, motion, zero, scene_cut)
    return GateInput(signals, 0.3, 1, 3, credit, lambda: cells)


@pytest.mark.parametrize("spread", [False, True])
def test_the_same_frame_is_decided_in_the_same_way(spread):
    gates = [LearnedGate(risk_net(), 64, spread=spread) for _ in range(2)]
    first, second, again = (gate.decide(frame_of(1, 1.0)) for gate in (*gates, gates[0]))
    assert np.array_equal(first.keep, second.keep) and np.array_equal(first.keep, again.keep)


@given(st.integers(0, 99), st.floats(-1, 2), st.floats(0, 1))
def test_more_credit_never_keeps_less_nor_more_than_it_pays_for(seed, credit, more):
    for spread in (False, True):
        gate = LearnedGate(risk_net(), 64, spread=spread, quiet=0.0)
        few, many = (gate.decide(frame_of(seed, c)).keep for c in (credit, credit + more))
        assert not (few & ~many).any()
        assert few.mean() <= max(credit, 0) + 1e-6


def test_the_riskiest_bins_come_first():
    gate = LearnedGate(risk_net(3), 64, spread=True, quiet=0.0)
    frame = frame_of(5, 0.25)
    risk = gate.risk(frame)
    keep = gate.decide(frame).keep[0]
    assert keep.sum() == 3 and risk[keep].min() >= risk[~keep].max()


def test_a_bin_at_the_edge_counts_only_what_lies_in_the_frame():
    gate = LearnedGate(risk_net(), 64)
    frame = frame_of(2, 1.0)
    expected = risk_net().risk(frame.cells())[8:11, 12:15].mean()
    assert gate.risk(frame)[2, 3] == pytest.approx(expected)


def test_the_network_is_not_asked_where_nothing_can_be_paid_for():
    def unwanted():
        raise AssertionError("1.5 ms for nothing")

    gate = LearnedGate(risk_net(), 64)
    decision = gate.decide(dataclasses.replace(frame_of(0, 0.9), cells=unwanted))
    assert not decision.keep.any() and decision.risk is None
    with pytest.raises(AssertionError):
        gate.decide(dataclasses.replace(frame_of(0, 1.0), cells=unwanted))


def test_nothing_is_computed_where_nothing_would_be_wrong():
    for spread in (False, True):
        gate = LearnedGate(risk_net(), 64, spread=spread, quiet=1.1)
        assert not gate.decide(frame_of(0, 1.0)).keep.any()
        assert gate.decide(frame_of(0, 0.0, scene_cut=True)).key_frame


def with_signals(frame: GateInput, **signals: np.ndarray) -> GateInput:
    return dataclasses.replace(frame, signals=dataclasses.replace(frame.signals, **signals))


@pytest.mark.parametrize("spread", [False, True])
def test_nothing_is_computed_where_nothing_moves_or_changes(spread):
    gate = LearnedGate(risk_net(), 64, spread=spread)
    standing = frame_of(0, 1.0, pixels=0.3)
    assert gate.decide(frame_of(0, 1.0)).keep.any() and not gate.decide(standing).keep.any()
    assert not gate.risk(standing).any()
    changed = np.zeros(BINS, dtype=np.float32)
    changed[1, 2] = 20.0  # such as a pedestrian in front of the car
    decision = gate.decide(with_signals(standing, distortion=changed))
    assert np.argwhere(decision.risk).tolist() == [[1, 2]] and decision.keep[0, 1, 2]


@pytest.mark.parametrize("spread", [False, True])
def test_a_quiet_scene_is_checked_now_and_then_as_far_as_the_credit_goes(spread):
    gate = LearnedGate(risk_net(), 64, spread=spread)
    age = np.full(BINS, CHECK_AFTER + 1, dtype=np.float32)
    assert gate.decide(with_signals(frame_of(0, 1.0, pixels=0), age=age)).keep.all()
    few = gate.decide(with_signals(frame_of(0, 0.26, pixels=0), age=age)).keep.mean()
    assert few == (0.25 if spread else 0)


def test_an_unmoved_scene_is_looked_at_ever_more_rarely():
    gate = LearnedGate(risk_net(), 64)
    standing = frame_of(0, 1.0, pixels=0)
    waits = []
    for looks in range(1, 7):
        ages = np.arange(100, dtype=np.float32)
        frames = [with_signals(standing, age=np.full(BINS, age, dtype=np.float32)) for age in ages]
        computed = [gate.decide(dataclasses.replace(f, looks=looks)).key_frame for f in frames]
        waits.append(int(np.argmax(computed)))
    assert waits == [9, 17, 33, 65, 65, 65]
    early = with_signals(
        dataclasses.replace(standing, looks=1, credit=0.9), age=np.full(BINS, 20, np.float32)
    )
    assert not gate.decide(early).keep.any()  # only as far as the credit goes


@pytest.mark.parametrize("spread", [False, True])
def test_the_scale_moves_the_threshold_and_is_not_in_the_risk_that_is_told(spread):
    frame = frame_of(0, 1.0)
    risk = LearnedGate(risk_net(), 64).risk(frame).mean()
    gate = LearnedGate(risk_net(), 64, spread=spread, quiet=2 * risk)
    for scale, computes in ((1.0, False), (3.0, True), (0.5, False)):
        decision = gate.decide(dataclasses.replace(frame, risk_scale=scale))
        assert decision.keep.any() == computes
        assert decision.risk.mean() == pytest.approx(risk)


def test_a_standing_car_costs_nothing_and_a_driving_one_does():
    module = network("split")
    with torch.no_grad():
        classes = module(torch.zeros(1, 3, 64, 64)).shape[1]
    gate = LearnedGate(risk_net(0, classes), 16, quiet=1e-6)
    segment = StreamingSegmenter(module, 16, 0.5, gate=gate)
    scene = photo(64 + 40, 64, 0)
    random = np.random.default_rng(0)
    standing = [
        np.clip(scene[:, :64] + random.normal(0, 1.5, (64, 64, 1)), 0, 255).astype(np.uint8)
        for _ in range(20)
    ]
    assert sum(segment(image)[1].key_frame for image in standing) == 2  # the first, and a second look
    driving = [np.ascontiguousarray(scene[:, left : left + 64]) for left in range(2, 42, 2)]
    assert sum(segment(image)[1].key_frame for image in driving) >= 8


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("budget", [0.1, 0.25, 0.4])
def test_the_budget_is_kept_over_a_clip(spread, budget):
    module = network("split")
    with torch.no_grad():
        classes = module(torch.zeros(1, 3, 64, 64)).shape[1]
    gate = LearnedGate(risk_net(0, classes), 16, spread=spread, quiet=0.0)
    segment = StreamingSegmenter(module, 16, budget, gate=gate, dense_above=NEVER)
    scene = photo(64 + 202, 64, 0)
    drive = [np.ascontiguousarray(scene[:, left : left + 64]) for left in range(0, 202, 2)]
    segment(drive[0])
    computed = [1 - segment(image)[1].block_drop_rate for image in drive[1:]]
    start = 1.0 / 100  # the first frame is computed in full whatever the budget
    assert budget - start - 0.02 <= np.mean(computed) <= budget + 0.02


def test_weights_come_back_as_they_were(tmp_path):
    saved = risk_net(7, 11)
    save_gate(saved, MODEL, tmp_path / "gate.safetensors")
    loaded = load_gate(MODEL, tmp_path / "gate.safetensors")
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_weights_of_another_model_are_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights_path(MODEL).read_bytes() + b"\0")
    save_gate(risk_net(0, 11), str(other), tmp_path / "gate.safetensors")
    with pytest.raises(EngineError, match=r"trained for other weights.*train-gate"):
        load_gate(MODEL, tmp_path / "gate.safetensors")


def test_weights_of_another_version_are_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tilestream.engine.gates.weights.SIGNALS", SIGNALS[:-1])
        save_gate(risk_net(0, 11), MODEL, tmp_path / "gate.safetensors")
    with pytest.raises(EngineError, match=r"another version.*train-gate"):
        load_gate(MODEL, tmp_path / "gate.safetensors")


def test_what_is_no_gate_is_refused(tmp_path):
    with pytest.raises(EngineError, match="not the weights of a gate"):
        load_gate(MODEL, weights_path(MODEL))
    with pytest.raises(EngineError, match=r"has no learned gate.*train-gate"):
        load_gate(MODEL, tmp_path / "missing")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match="cannot be read"):
        load_gate(MODEL, damaged)


def test_auto_is_the_learned_gate_where_there_is_one(tmp_path):
    assert isinstance(load_gate_named("auto", MODEL, 64), LearnedGate)
    alone = tmp_path / "mine.safetensors"
    alone.write_bytes(weights_path(MODEL).read_bytes())
    assert isinstance(load_gate_named("auto", str(alone), 64), EveryKGate)
    other = tmp_path / "mine.gate.safetensors"
    save_gate(RiskNet(11), "ddrnet23_slim", other)
    with pytest.raises(EngineError, match="trained for other weights"):
        load_gate_named("auto", str(alone), 64)


def test_gates_are_found_by_name():
    assert isinstance(load_gate_named("every_k", MODEL, 64), EveryKGate)
    with pytest.raises(ValueError, match="no gate"):
        load_gate_named("nonsense", MODEL, 64)


def test_old_bins_come_before_all_others():
    gate = LearnedGate(risk_net(3), 64, spread=True, quiet=0.0)
    frame = frame_of(5, 0.17)  # pays for two
    age = np.zeros(BINS, dtype=np.float32)
    lowest = np.unravel_index(gate.risk(frame).argmin(), BINS)
    age[lowest] = MAX_AGE + 1
    keep = gate.decide(dataclasses.replace(frame, signals=dataclasses.replace(frame.signals, age=age))).keep[
        0
    ]
    assert keep.sum() == 2 and keep[lowest]
