"""Sessions that step an engine together, without a server, and what a step asks of the host."""

from __future__ import annotations

import cProfile
from collections.abc import Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from bench.clips import Size, decode, place_in_clip
from tilestream.messages import Codec, Engine, Frame, Grant, Outcome, Picture, SessionSpec, StepPlan

GOLDEN = 0.618  # of a cycle between two sessions' phases: any number of them is spread evenly
PLACES = 7  # frames of the clip between two sessions


class Cameras:
    """Sessions that play one clip."""

    def __init__(
        self, engine: Engine, model: str, pictures: Sequence[Picture], sessions: int, budget: float
    ) -> None:
        self._engine, self._model, self._pictures, self._budget = engine, model, pictures, budget
        self._names = [f"s{number}" for number in range(sessions)]
        self._next = 0

    def open(self) -> None:
        """Open all sessions. Raises EngineError."""
        for number, name in enumerate(self._names):
            self._engine.open(SessionSpec(name, self._model, phase=number * GOLDEN % 1.0))

    def __len__(self) -> int:
        """How many sessions."""
        return len(self._names)

    def plan(self) -> StepPlan:
        """The next frame of every session."""
        index, self._next = self._next, self._next + 1
        places = (place_in_clip(len(self._pictures), index + PLACES * n) for n in range(len(self._names)))
        return StepPlan(
            tuple(
                (Frame(name, index, self._pictures[place]), Grant(self._budget))
                for name, place in zip(self._names, places, strict=True)
            )
        )

    def step(self, plan: StepPlan) -> list[Outcome]:
        """Compute it. Raises RuntimeError where a frame got no labels."""
        outcomes = self._engine.step(plan)
        for outcome in outcomes:
            if outcome.failure is not None:
                raise RuntimeError(
                    f"a frame failed: {outcome.failure.detail or outcome.failure.reason.value}"
                )
        return outcomes

    def close(self) -> None:
        for name in self._names:
            self._engine.release(name)


class _Operations(TorchDispatchMode):
    """Counts what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def torch_operations(cameras: Cameras) -> int:
    """Of one step."""
    plan = cameras.plan()
    with _Operations() as seen:
        cameras.step(plan)
    return seen.count


def python_calls(cameras: Cameras) -> int:
    """Of one step, calls of built-in functions included."""
    plan, profile = cameras.plan(), cProfile.Profile()
    profile.runcall(cameras.step, plan)
    return sum(entry.callcount for entry in profile.getstats())


def pictures_of(clip: Sequence[bytes], size: Size, as_jpeg: bool) -> list[Picture]:
    """What an engine is given: JPEG bytes, or their pixels."""
    if as_jpeg:
        return [Picture(*size, size, codec=Codec.JPEG, data=jpeg) for jpeg in clip]
    return [Picture(*size, size, decode(jpeg)) for jpeg in clip]
