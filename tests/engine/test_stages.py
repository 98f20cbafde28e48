"""What a step takes is booked to its frames in shares that add up to it, each stage for itself."""

import pytest
import torch

from support.frames import photo
from support.reuse_engines import CPU, Ask, network, run
from tilestream.engine.gates.rules import BudgetGate, EveryKGate
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.estimators import NoMotion
from tilestream.messages import STAGES

SIZES = {"a": (64, 48), "b": (64, 48), "c": (48, 80)}


class ManualClock:
    """Seconds that pass only where a test lets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def during(self, work, seconds: float):
        """The same work, in so many seconds."""

        def slow(*arguments, **named):
            self.now += seconds
            return work(*arguments, **named)

        return slow


def engine(gate, clock: ManualClock) -> ModelEngine:
    module, motion = network("split"), NoMotion()
    motion.estimate = clock.during(motion.estimate, 10.0)
    gate.decide = clock.during(gate.decide, 4.0)
    made = ModelEngine(
        module, CPU, torch.float32, module.mean, module.std, gate, ReuseOptions(16), motion, clock
    )
    made.dense.scores = clock.during(made.dense.scores, 60.0)
    made.dense.labelled = clock.during(made.dense.labelled, 6.0)
    if made.features is not None:
        made.features.run = clock.during(made.features.run, 30.0)
    return made


def step(made: ModelEngine, clock: ManualClock, seed: int, **asked) -> tuple[dict, float]:
    """By session, the seconds of its frame by stage; and what the step took."""
    began = clock.now
    outcomes = run(made, [Ask(name, photo(*size, seed), budget=0.5, **asked) for name, size in SIZES.items()])
    return {o.session_id: o.stats.stage_seconds for o in outcomes}, clock.now - began


@pytest.mark.parametrize("gate", [BudgetGate, EveryKGate])
def test_shares_add_up_to_the_step_and_name_its_stages(gate):
    clock = ManualClock()
    made = engine(gate(), clock)
    for seed in range(4):
        seconds, took = step(made, clock, seed)
        assert sum(sum(stages.values()) for stages in seconds.values()) == pytest.approx(took)
        assert all(set(stages) <= set(STAGES) for stages in seconds.values())


def test_each_frame_is_booked_its_own_motion_and_its_share_of_a_batch():
    clock = ManualClock()
    made = engine(BudgetGate(), clock)
    first, _ = step(made, clock, 0)
    assert {name: stages["backbone"] for name, stages in first.items()} == {"a": 30.0, "b": 30.0, "c": 60.0}
    assert {name: stages["head"] for name, stages in first.items()} == {"a": 3.0, "b": 3.0, "c": 6.0}
    assert all(stages["motion"] == 0.0 and "gate" not in stages for stages in first.values())
    second, _ = step(made, clock, 0)
    assert {name: stages["motion"] for name, stages in second.items()} == {"a": 5.0, "b": 5.0, "c": 10.0}
    assert {name: stages["gate"] for name, stages in second.items()} == {"a": 2.0, "b": 2.0, "c": 4.0}
    assert {name: stages["backbone"] for name, stages in second.items()} == {"a": 10.0, "b": 10.0, "c": 10.0}


def test_frames_of_which_nothing_is_computed_have_no_share_of_those_that_are():
    clock = ManualClock()
    made = engine(BudgetGate(), clock)
    step(made, clock, 0)
    asked = [Ask(name, photo(*size, 1), keep=name == "c") for name, size in SIZES.items()]
    shares = {o.session_id: o.stats.stage_seconds.get("backbone", 0.0) for o in run(made, asked)}
    assert shares == {"a": 0.0, "b": 0.0, "c": pytest.approx(60.0)}
