"""Engines that charge for unlike things, and what overload control makes of them against pinned budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.simulation import Record, Simulation, VirtualCamera, VirtualEngine
from tilestream.scheduling.scheduler import Limits
from tilestream.sessions.session import phase_of

SIZE = (720, 1280)  # height, width of every camera's frames
PINNED = Limits(min_budget=1.0)


@dataclass(frozen=True, slots=True)
class Prices:
    """Milliseconds: of a step, of a frame by itself, of comparing it with the one before, of all of it as a
    whole; ``batch``: what a step's first whole frame costs more than the others. ``spread``: see
    ``VirtualEngine``.
    """

    step: float = 0.0
    frame: float = 0.0
    compared: float = 0.0
    whole: float = 0.0
    batch: float = 0.0
    spread: bool = False

    def engine(self) -> VirtualEngine:
        """An engine of these prices."""
        megapixels = SIZE[0] * SIZE[1] / 1e6
        frame, compared, whole = (ms / 1e3 / megapixels for ms in (self.frame, self.compared, self.whole))
        return VirtualEngine(
            self.step / 1e3, frame, whole, 1.2 * whole, compared, self.batch / 1e3, spread=self.spread
        )

    def dense_fps(self, cameras: int) -> float:
        """Frames/s of an engine that computes all of every frame, a frame of each camera in every step."""
        step = self.step + self.batch + cameras * (self.frame + self.whole)
        return 1e3 * cameras / step


ENGINES = {
    "CPU": Prices(step=2, frame=2, compared=6, whole=48),
    "GPU, state on the host": Prices(frame=3.6, compared=12.4, whole=0.6),
    "GPU, everything compared": Prices(frame=16, whole=0.6),
    "GPU, state on the device": Prices(step=2, frame=0.2, whole=0.65, batch=0.4),
    "dear steps": Prices(step=30, frame=0.2, compared=0.2, whole=0.65),
}
"""The first is like two cores, the second like an H200 whose frames are compared on the host (measured: 237
frames/s dense, 62 compared); the others are assumed."""


def stream(prices: Prices, cameras: int, fps: float, budget: float, limits: Limits, seconds: float) -> Record:
    """Cameras that ask for a budget, for so many seconds."""
    sources = [
        VirtualCamera(fps, size=SIZE, budget=budget, phase=phase_of(f"camera-{index}"), frames_in_flight=3)
        for index in range(cameras)
    ]
    return Simulation(sources, prices.engine(), limits).run(seconds)


def settled(record: Record, seconds: float) -> dict[str, float | str]:
    """What came of a run after its first third."""
    begin = seconds / 3
    answers = record.between(begin, seconds)
    load = record.loads[-1][1]
    return {
        "fps": round(len(answers) / (seconds - begin), 1),
        "p99_ms": round(1e3 * float(np.quantile([answer.latency for answer in answers], 0.99))),
        "budget": round(float(np.mean([answer.budget for answer in answers])), 2),
        "frames_per_step": round(len(record.answered) / record.steps, 1),
        "level": load.level.name.lower(),
        "remedy": load.remedy.value,
    }
