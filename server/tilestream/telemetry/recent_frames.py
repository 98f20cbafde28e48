"""The frames of the last seconds, for gauges of rates."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tilestream.messages import FrameStats

_WINDOW = 5.0  # seconds that are looked back
_MOST = 10_000  # frames


@dataclass(frozen=True, slots=True)
class _Sample:
    """A frame answered OK."""

    at: float
    units_computed: int
    units_total: int
    budget: float
    pixels_compared: int
    pixels_changed: float


class RecentFrames:
    """Added to on the event loop, read by whatever thread is scraped in. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begin = clock()
        self._samples: deque[_Sample] = deque(maxlen=_MOST)

    def add(self, stats: FrameStats) -> None:
        """A frame was answered OK."""
        self._samples.append(
            _Sample(
                self._clock(),
                stats.units_computed,
                stats.units_total,
                stats.budget,
                stats.agreement_pixels,
                stats.pixels_changed,
            )
        )

    def fps(self) -> float:
        """Frames per second."""
        return len(self._window()) / max(min(_WINDOW, self._clock() - self._begin), 1e-3)

    def block_drop_rate(self) -> float:
        """Dropped block units / all of them; 0 without frames."""
        window = self._window()
        total = sum(sample.units_total for sample in window)
        return 1.0 - sum(sample.units_computed for sample in window) / total if total else 0.0

    def block_budget(self) -> float:
        """Mean budget; 0 without frames."""
        window = self._window()
        return sum(sample.budget for sample in window) / len(window) if window else 0.0

    def agreement(self) -> float:
        """Reuse agreement; NaN where nothing was compared."""
        window = self._window()
        compared = sum(sample.pixels_compared for sample in window)
        return 1.0 - sum(sample.pixels_changed for sample in window) / compared if compared else math.nan

    def _window(self) -> list[_Sample]:
        since = self._clock() - _WINDOW
        return [sample for sample in self._samples.copy() if sample.at > since]
