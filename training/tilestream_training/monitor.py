"""The engine's own reuse agreement over a clip, and how well it predicts what labels would say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilestream.messages import FrameStats


@dataclass(slots=True)
class Monitor:
    """Adds up the reuse agreement of a session's frames."""

    pixels: int = 0  # of all frames
    compared: int = 0
    changed: float = 0.0
    aged: float = 0.0

    def add(self, stats: FrameStats, pixels: int) -> None:
        """One frame of so many pixels."""
        self.pixels += pixels
        if stats.agreement is None:
            return
        self.compared += stats.agreement_pixels
        self.changed += stats.pixels_changed
        self.aged += stats.pixels_changed * (stats.agreement_age - 1.0) / 2.0

    @property
    def agreement(self) -> float | None:
        """Of all pixels that were compared, the share that kept their label; None: none were."""
        return 1.0 - self.changed / self.compared if self.compared else None

    @property
    def wrong(self) -> float | None:
        """Estimate of the share of pixels, over all frames, whose label is not what computing would give.

        If a label that changed at age a went wrong at a steady rate, it was wrong in (a - 1) / 2 of the
        frames that showed it. Unlike the agreement, this counts what was reused, and for how long.
        """
        return self.aged / self.pixels if self.compared else None


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: 1 where both order things alike, -1 where in reverse, nan where nothing can be told."""
    if len(first) < 2:
        return float("nan")
    a, b = (_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])
