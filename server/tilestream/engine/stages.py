"""The time of a step, booked to its frames: what is done for several of them, a share to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Timed(Protocol):
    """A frame; ``seconds``: its share of the step's time, by stage."""

    seconds: dict[str, float]


class StageClock:
    """``clock``: seconds. The shares of all frames of a step add up to the time that its stages took.

    Stages are those of ``messages.STAGES``.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock

    @contextmanager
    def booked(self, frames: Sequence[Timed], stage: str) -> Iterator[None]:
        """What is done within is done for these frames."""
        started = self.now()
        yield
        self.book(frames, stage, self.now() - started)

    @staticmethod
    def book(frames: Sequence[Timed], stage: str, seconds: float) -> None:
        """So many seconds were spent for these frames."""
        for frame in frames:
            frame.seconds[stage] = frame.seconds.get(stage, 0.0) + seconds / len(frames)
