"""What all gates promise, trained ones too: the same answer to the same frame, and to keep the budget."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import NEVER, network
from tilestream.engine.gates.cells import SIGNALS
from tilestream.engine.gates.gate import GATES, Gate, GateInput, make_gate
from tilestream.engine.gates.learned import LEARNED, LearnedGate
from tilestream.engine.gates.risk_net import RiskNet
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.streaming import StreamingSegmenter

ALL = (*GATES, *LEARNED)
UNITS, BINS, CLASSES, BIN = 3, (3, 4), 5, 64
FOLLOWING = [name for name in ALL if name != "threshold"]  # that computes less where little happens


@cache
def risk_net(classes: int) -> RiskNet:
    torch.manual_seed(0)
    return RiskNet(classes).eval()


def make(name: str, classes: int = CLASSES, bin_size: int = BIN) -> Gate:
    if name in LEARNED:
        return LearnedGate(risk_net(classes), bin_size, spread=name == "learned_spread")
    return make_gate(name)


@st.composite
def frames(draw) -> GateInput:
    random = np.random.default_rng(draw(st.integers(0, 9999)))
    maps = [random.uniform(0, high, BINS).astype(np.float32) for high in (40, 20, 60, 40, 8, 0.3)]
    signals = BinSignals(*maps, scene_cut=draw(st.booleans()) and draw(st.booleans()))
    cells = random.random((len(SIGNALS) + CLASSES, 11, 15), dtype=np.float32)
    budget, saved = draw(st.floats(0.01, 1.0)), draw(st.floats(-1.0, 1.0))
    since, scale = draw(st.integers(1, 40)), draw(st.floats(0.25, 4.0))
    return GateInput(signals, budget, since, UNITS, saved + budget, lambda: cells, risk_scale=scale)


@pytest.mark.parametrize("name", ALL)
@given(frames())
def test_the_same_frame_gets_the_same_masks(name, frame):
    first, second = make(name), make(name)
    expected = first.decide(frame)
    first.decide(dataclasses.replace(frame, budget=0.9, credit=1.5))  # and nothing stays of it
    for gate in (first, second):
        again = gate.decide(frame)
        assert np.array_equal(again.keep, expected.keep) and again.key_frame == expected.key_frame


@pytest.mark.parametrize("name", ALL)
@given(frames(), st.floats(0, 1))
def test_a_higher_budget_never_computes_less(name, frame, more):
    more *= 1.0 - frame.budget
    richer = dataclasses.replace(frame, budget=frame.budget + more, credit=frame.credit + more)
    few, many = make(name).decide(frame).keep, make(name).decide(richer).keep
    assert few.sum() <= many.sum()
    assert not (few & ~many).any()


@pytest.mark.parametrize("name", ALL)
@given(frames(), st.floats(0, 1))
def test_no_more_is_computed_than_the_limit(name, frame, limit):
    keep = make(name).decide(dataclasses.replace(frame, limit=limit)).keep
    if frame.signals.scene_cut:
        assert keep.all(), "there is nothing to reuse"
    else:
        assert keep.mean() <= max(limit, 1 / keep[0].size if limit else 0.0) + 1e-6
        assert not (keep & ~make(name).decide(frame).keep).any()


def computed(name: str, budget: float, count: int = 60) -> list[float]:
    """Shares of the units that a drive's frames compute, after the first one."""
    module = network("split")
    with torch.no_grad():
        classes = module(torch.zeros(1, 3, 64, 64)).shape[1]
    segment = StreamingSegmenter(module, 16, budget, gate=make(name, classes, 16), dense_above=NEVER)
    scene = photo(128 + 2 * count, 96, 0)
    images = [np.ascontiguousarray(scene[:, 2 * i : 2 * i + 128]) for i in range(count + 1)]
    return [1.0 - segment(image)[1].block_drop_rate for image in images][1:]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("budget", [0.15, 0.4])
def test_the_budget_is_kept_over_a_clip(name, budget):
    shares = computed(name, budget)
    assert np.mean(shares) <= budget + 0.02
    if name in FOLLOWING:
        # the first frame, whole whatever the budget, is paid for by those after it
        paid = 1.0 / len(shares) if name in LEARNED else 0.0
        assert np.mean(shares) >= budget - paid - 0.02
