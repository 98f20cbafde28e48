"""A step that runs out of memory: room is made, it is tried once more, and only its frames can fail."""

import numpy as np
import pytest
import torch

from support.networks import write_weights
from support.plans import frame_of, plan_of
from tilestream.engine import EngineOptions
from tilestream.engine.engine import REFUSE_SECONDS, TorchEngine
from tilestream.messages import EngineError, SessionSpec

SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]
IDLE = ("oldest", "older", "newest")


class Setup:
    """An engine with three idle sessions that hold features, and one called "busy"."""

    def __init__(self, path):
        self.now = 0.0
        options = EngineOptions((str(path),), device="cpu", precision="fp32")
        self.engine = TorchEngine(options, clock=lambda: self.now)
        self.model = self.engine._models["model"]
        self.real_step, self.steps = self.model.step, 0
        for name in (*IDLE, "busy"):
            self.engine.open(SessionSpec(name, "model"))
            assert self.frame(name).failure is None

    def frame(self, name):
        image = np.full((64, 64, 3), 90, dtype=np.uint8)
        (outcome,) = self.engine.step(plan_of(frame_of(name, 1, image), budget=0.5))
        return outcome

    def fail(self, times, error):
        self.steps = 0

        def step(requests):
            self.steps += 1
            if self.steps <= times:
                raise error
            return self.real_step(requests)

        self.model.step = step

    def holders(self):
        """The sessions that have something to reuse."""
        return {name for name in self.model.by_last_use() if self.model.session(name).ready}


@pytest.fixture
def setup(tmp_path):
    made = Setup(write_weights(tmp_path / "model.safetensors"))
    yield made
    made.engine.close()


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
def test_room_is_made_and_the_step_tried_again(setup, error):
    setup.fail(1, error)
    outcome = setup.frame("busy")
    assert setup.steps == 2
    assert outcome.failure is None and outcome.stats.key_frame
    assert setup.holders() == {"newest", "busy"}
    setup.engine.open(SessionSpec("new", "model"))  # not refused: it went well in the end


def test_it_is_tried_only_once_and_new_sessions_are_refused_for_a_while(setup):
    setup.fail(2, SHORTAGES[0])
    outcome = setup.frame("busy")
    assert setup.steps == 2
    assert outcome.labels is None and "failed" in outcome.failure.detail
    setup.now = REFUSE_SECONDS - 0.1
    with pytest.raises(EngineError, match="out of memory"):
        setup.engine.open(SessionSpec("new", "model"))
    setup.now = REFUSE_SECONDS
    setup.engine.open(SessionSpec("new", "model"))
    again = setup.frame("busy")
    assert again.failure is None and again.stats.key_frame


def test_other_errors_are_not_tried_again_and_cost_nobody_else(setup):
    setup.fail(1, RuntimeError("a bug"))
    assert setup.frame("busy").failure is not None
    assert setup.steps == 1
    assert setup.holders() == set(IDLE)
    setup.engine.open(SessionSpec("new", "model"))
    assert setup.frame("busy").stats.key_frame
