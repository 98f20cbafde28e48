"""What a step will cost, learned from what steps have cost.

Seconds of a step = fixed + sum over its frames of megapixels * (frame + whole | share * part): a frame costs
something by itself (motion, labels), and then what is computed of it, as a whole or in tiles. The four
coefficients (the last three per group of like sessions, say of one model) are fitted online: least squares
with forgetting, none below zero, held together by a prior where steps do not tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRIOR = (0.002, 0.03, 0.27, 0.3)
"""Seconds: a step; per megapixel a frame, all of a whole frame, all units in tiles. Two cores.

Only their proportions matter for long: a common factor is learned from the first step on.
"""

MEMORY = 100
"""Steps that the fit looks back on."""

_PRIOR_STEPS = 0.05  # what the prior counts for, in steps; more bends unlike machines towards it
_EAGER, _SELDOM = 50, 8  # steps: at first the fit follows each of them, later every eighth


@dataclass(frozen=True, slots=True)
class Work:
    """What is, or will be, computed of one frame. ``share``: of its block units, 0..1; 1 if ``whole``."""

    group: str
    megapixels: float
    whole: bool
    share: float


class CostModel:
    """Predicts seconds. ``memory``: steps, see :data:`MEMORY`."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._forget = 1.0 - 1.0 / memory
        self._groups: dict[str, int] = {}  # their place among the coefficients
        self._prior = np.array(PRIOR[:1])
        self._factors = np.ones(1)  # what each coefficient of the prior is to be multiplied with
        self._gram = np.zeros((1, 1))
        self._moment = np.zeros(1)
        self._common = 1.0  # the factor of a coefficient that no step has told anything about
        self._error = 0.5  # typical relative error
        self.steps = 0

    @property
    def fixed(self) -> float:
        """Seconds of a step beside its frames."""
        return float(self._prior[0] * self._factors[0])

    def coefficients(self, group: str) -> tuple[float, float, float]:
        """Seconds per megapixel of a group: of a frame, of all of it as a whole, of all of it in tiles."""
        start = self._place(group)
        frame, whole, part = (self._prior * self._factors)[start : start + 3]
        return float(frame), float(whole), float(part)

    def split(self, work: Work) -> tuple[float, float]:
        """Seconds for a frame by itself, and for what is computed of it."""
        frame, whole, part = self.coefficients(work.group)
        return frame * work.megapixels, (whole if work.whole else part * work.share) * work.megapixels

    def frame_seconds(self, work: Work) -> float:
        """Seconds that a frame adds to a step."""
        return sum(self.split(work))

    def seconds(self, works: Sequence[Work]) -> float:
        """Seconds of a step."""
        return self.fixed + sum(map(self.frame_seconds, works))

    def learn(self, works: Sequence[Work], seconds: float) -> None:
        """A step of these frames took so long."""
        if not works or seconds <= 0:
            return
        row = self._row(works)
        priced = float(row.sum())
        if not self.steps:
            self._common = seconds / priced
            self._factors[:] = self._common
        self.steps += 1
        expected = max(float(row @ self._factors), 1e-6)
        off = abs(seconds / expected - 1.0)
        # A step that took ten times as long was interrupted. If all do from now on, the error grows.
        weight = min(1.0, 2.0 * self._error / max(off, 1e-9))
        self._error += 0.05 * (min(off, 10.0 * self._error) - self._error)
        self._error = max(self._error, 0.01)
        self._common += 0.05 * weight * (seconds / priced - self._common)
        row = row / expected  # relative errors: a short step says as much as a long one
        self._gram = self._forget * self._gram + weight * np.outer(row, row)
        self._moment = self._forget * self._moment + weight * row * (seconds / expected)
        if self.steps < _EAGER or self.steps % _SELDOM == 0:
            self._solve()

    def _solve(self) -> None:
        """Least squares of the relative errors. Factors that would be below zero are held at it."""
        hold = _PRIOR_STEPS / self._common**2
        gram = self._gram + hold * np.eye(len(self._gram))
        moment = self._moment + hold * self._common
        free = np.ones(len(moment), bool)
        while True:
            factors = np.linalg.solve(gram[np.ix_(free, free)], moment[free])
            if factors.min(initial=0.0) >= 0.0:
                break
            free[np.flatnonzero(free)[factors < 0.0]] = False
        self._factors[:] = 0.0
        self._factors[free] = factors

    def _row(self, works: Sequence[Work]) -> npt.NDArray[np.float64]:
        """A step as the prior prices it, coefficient by coefficient."""
        for work in works:
            self._place(work.group)
        row = np.zeros(len(self._prior))
        row[0] = 1.0
        for work in works:
            start = self._groups[work.group]
            row[start] += work.megapixels
            row[start + 1 if work.whole else start + 2] += work.megapixels * work.share
        return np.asarray(row * self._prior)

    def _place(self, group: str) -> int:
        if group not in self._groups:
            old = len(self._prior)
            self._groups[group] = old
            self._prior = np.append(self._prior, PRIOR[1:])
            self._factors = np.append(self._factors, [self._common] * 3)
            self._gram = np.pad(self._gram, (0, 3))
            self._moment = np.append(self._moment, [0.0] * 3)
        return self._groups[group]
