"""The closed loop: a gate that is wrong by a factor is corrected by what its bins turn out to be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import NEVER, network
from tilestream.engine.gates.agreement import Agreement
from tilestream.engine.gates.calibration import LIMIT, RiskCalibration
from tilestream.engine.gates.gate import GateDecision, GateInput
from tilestream.engine.gates.learned import RiskGate
from tilestream.engine.streaming import StreamingSegmenter
from tilestream_training.stream_methods import OracleGate

BINS = (3, 4)


def told(wrong: np.ndarray, where: np.ndarray | bool = True) -> Agreement:
    """Bins of 1000 pixels of which the share ``wrong`` changed, compared ``where``."""
    pixels = np.where(where, np.full(BINS, 1000), 0)
    return Agreement(pixels, np.rint(wrong * pixels).astype(np.int64), 1.0, 1000 * wrong.size)


def after(factor: float, frames: int, seed: int = 0, share: float = 1.0) -> RiskCalibration:
    """A loop after frames for which a gate had expected ``factor`` times what came true."""
    random, loop = np.random.default_rng(seed), RiskCalibration()
    for _ in range(frames):
        wrong = random.uniform(0.005, 0.2, BINS)
        loop.observe(np.float32(wrong * factor), told(wrong, random.random(BINS) < share))
    return loop


@given(st.floats(0.3, 3.5), st.integers(0, 99), st.sampled_from([1.0, 0.3]))
def test_it_finds_the_factor_by_which_a_gate_is_wrong(factor, seed, share):
    assert after(factor, 120, seed, share).scale == pytest.approx(1 / factor, rel=0.03)


@given(st.floats(0.0, 100.0), st.integers(0, 60), st.integers(0, 99))
def test_it_is_bounded_and_deterministic(factor, frames, seed):
    loop = after(factor, frames, seed)
    assert 1 / LIMIT <= loop.scale <= LIMIT
    assert loop == after(factor, frames, seed)


def test_it_moves_slowly_and_less_for_few_bins():
    one, many, part = after(3.0, 1), after(3.0, 30), after(3.0, 1, share=0.3)
    assert many.scale < one.scale < part.scale < 1


def test_bins_that_the_gate_did_not_judge_do_not_count():
    loop, risk, wrong = RiskCalibration(), np.zeros(BINS, np.float32), np.full(BINS, 0.5)
    loop.observe(risk, told(wrong))
    assert loop == RiskCalibration()
    risk[0, 0], wrong[0, 0] = 0.1, 0.1
    for _ in range(300):
        loop.observe(risk, told(wrong))
    assert loop.scale == pytest.approx(1.0)


class Skewed(OracleGate):
    """Knows what would be wrong, and says so times a factor."""

    def __init__(self, factor: float, **options) -> None:
        super().__init__(16, **options)
        self.factor = factor
        self.scales: list[float] = []
        self.true: list[float] = []

    def risk(self, frames: GateInput, which: list[int]) -> torch.Tensor:
        true = super().risk(frames, which)
        self.scales += frames.risk_scale[which].tolist()
        self.true.append(float(true.mean()))
        return true * self.factor


def drive(gate: RiskGate, frames: int, budget: float = 0.4) -> tuple[StreamingSegmenter, list[bool]]:
    """A camera that turns; which frames were computed at all."""
    module = network("split")
    segment = StreamingSegmenter(module, 16, budget, gate=gate, dense_above=NEVER, fusion=0.0)
    teacher = StreamingSegmenter(module, 16, 1.0, dense_above=NEVER)
    scene, busy = photo(64 + 2 * frames, 64, 0), []
    for index in range(frames):
        image = np.ascontiguousarray(scene[:, 2 * index : 2 * index + 64])
        gate.tell(segment, teacher.outcome(image, whole=True).labels)
        busy.append(segment.outcome(image).stats.units_computed > 0)
    return segment, busy


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0, 1 / 3])
def test_a_session_corrects_its_gate(spread, factor):
    gate = Skewed(factor, spread=spread)
    segment, _ = drive(gate, 120)
    assert segment.state.calibration.scale == pytest.approx(1 / factor, rel=0.15)
    assert gate.scales[0] == 1.0
    assert gate.scales[-1] == pytest.approx(1 / factor, rel=0.15)


@pytest.mark.parametrize("factor", [1 / 3, 3.0])
def test_the_loop_makes_a_wrong_gate_compute_about_as_often_as_a_right_one(monkeypatch, factor):
    probe = Skewed(1.0)
    drive(probe, 30)
    quiet = 2 * float(np.mean(probe.true))

    def computed(factor: float) -> float:
        return float(np.mean(drive(Skewed(factor, quiet=quiet), 100)[1][30:]))

    right, corrected = computed(1.0), computed(factor)
    monkeypatch.setattr(RiskCalibration, "observe", lambda *_: None)
    wrong = computed(factor)
    assert (wrong > 1.3 * right) if factor > 1 else (wrong < 0.7 * right)
    assert abs(corrected - right) < 0.5 * abs(wrong - right)


def test_gates_without_an_opinion_change_nothing():
    class Silent:
        reuses_features = True

        def decide(self, frames: GateInput) -> GateDecision:
            assert frames.risk_scale == 1.0
            keep = torch.ones_like(frames.signals.age, dtype=torch.bool)
            keep[:, 0, 0] = False
            return GateDecision.of_bins(frames, keep)

    segment = StreamingSegmenter(network("split"), 16, 0.5, gate=Silent(), dense_above=NEVER)
    for seed in range(4):
        stats = segment.outcome(photo(64, 64, seed)).stats
    assert stats.agreement < 1 and segment.state.calibration == RiskCalibration()
