"""What a step will cost, learned from what steps have cost.

Seconds of a step = fixed + sum over its frames of megapixels * (frame + compared + (whole | part * share)):
a frame costs something by itself (decoding, its answer), more if it is compared with the one before it
(motion, labels), and then what is computed of it, as a whole or in tiles. So *frame + compared* is the price
of a frame of which nothing is computed, and *frame + whole* that of one whose budget is 1, which is not
compared.

The five coefficients (the last four per group of like sessions, say of one model) are fitted online: least
squares with forgetting, none below zero. Where steps do not tell them apart they keep their proportions: at
first those of a prior, later those that earlier steps have told of this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRIOR = (0.002, 0.01, 0.02, 0.27, 0.3)
"""Seconds: a step; per megapixel a frame, what comparing adds, all of a whole frame, all units in tiles.

Of two cores. Only their proportions matter: a common factor is learned from the first step on.
"""

MEMORY = 100
"""Steps that the fit looks back on."""

_WHOLE_FRAME = PRIOR[1] + PRIOR[3]
_OF_A_GROUP = len(PRIOR) - 1  # coefficients
_PRIOR_STEPS = 0.05  # what the proportions count for, in steps; more bends unlike machines towards the prior
_PACE = 0.05  # of the common factor and the proportions, per step and per solution
_EAGER, _SELDOM = 50, 8  # steps: at first the fit follows each of them, later every eighth


@dataclass(frozen=True, slots=True)
class Work:
    """What is, or will be, computed of one frame. ``share``: of its block units, 0..1; 1 if ``whole``.

    ``compared``: with the frame before it, which is always so unless there is none or its budget is 1.
    """

    group: str
    megapixels: float
    whole: bool
    share: float
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one frame, seconds: ``frame`` by itself, what being ``compared`` adds, all of it as a ``whole``, all
    of it in tiles (``part``).
    """

    frame: float
    compared: float
    whole: float
    part: float

    def units(self, work: Work) -> float:
        """Of what is computed of a frame."""
        return self.whole if work.whole else self.part * work.share

    def total(self, work: Work) -> float:
        """What a frame adds to a step."""
        return self.frame + self.compared * work.compared + self.units(work)


class CostModel:
    """Predicts seconds. ``memory``: steps, see :data:`MEMORY`."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._forget = 1.0 - 1.0 / memory
        self._groups: dict[str, int] = {}  # their place among the coefficients
        self._prior = np.array(PRIOR[:1])
        self._factors = np.ones(1)  # what each coefficient of the prior is to be multiplied with
        self._proportions = np.ones(1)  # of the factors, as far as steps have told
        self._common = 1.0  # what the proportions are multiplied with, where steps tell nothing else now
        self._gram = np.zeros((1, 1))
        self._moment = np.zeros(1)
        self._error = 0.5  # typical relative error
        self.steps = 0

    @property
    def fixed(self) -> float:
        """Seconds of a step beside its frames."""
        return float(self._prior[0] * self._factors[0])

    def prices(self, group: str, megapixels: float = 1.0) -> Prices:
        """Of a frame of a group."""
        start = self._place(group)
        found = (self._prior * self._factors)[start : start + _OF_A_GROUP] * megapixels
        return Prices(*map(float, found))

    def frame_seconds(self, work: Work) -> float:
        """Seconds that a frame adds to a step."""
        return self.prices(work.group, work.megapixels).total(work)

    def seconds(self, works: Sequence[Work]) -> float:
        """Seconds of a step."""
        return self.fixed + sum(map(self.frame_seconds, works))

    def learn(self, works: Sequence[Work], seconds: float) -> None:
        """A step of these frames took so long."""
        if not works or seconds <= 0:
            return
        row = self._row(works)
        if not self.steps:
            self._common = seconds / float(row.sum())
            self._factors[:] = self._common
        self.steps += 1
        expected = max(float(row @ self._factors), 1e-6)
        off = abs(seconds / expected - 1.0)
        # A step that took ten times as long was interrupted. If all do from now on, the error grows. Nothing
        # makes a step shorter than it has to be: one that is, is news.
        weight = 1.0 if seconds < expected else min(1.0, 2.0 * self._error / max(off, 1e-9))
        self._error += 0.05 * (min(off, 10.0 * self._error) - self._error)
        self._error = max(self._error, 0.01)
        self._common += _PACE * weight * (seconds / float(row @ self._proportions) - self._common)
        row = row / expected  # relative errors: a short step says as much as a long one
        self._gram = self._forget * self._gram + weight * np.outer(row, row)
        self._moment = self._forget * self._moment + weight * row * (seconds / expected)
        if self.steps < _EAGER or self.steps % _SELDOM == 0:
            self._solve()

    def _solve(self) -> None:
        """Least squares of the relative errors. Factors that would be below zero are held at it."""
        kept = self._common * self._proportions
        # What is a small part of a step may be wrong by a large factor.
        hold = _PRIOR_STEPS * (self._prior / _WHOLE_FRAME / np.maximum(kept, self._common)) ** 2
        gram = self._gram + np.diag(hold)
        moment = self._moment + hold * kept
        free = np.ones(len(moment), bool)
        while True:
            factors = np.linalg.solve(gram[np.ix_(free, free)], moment[free])
            if factors.min(initial=0.0) >= 0.0:
                break
            free[np.flatnonzero(free)[factors < 0.0]] = False
        self._factors[:] = 0.0
        self._factors[free] = factors
        self._remember(hold)

    def _remember(self, hold: npt.NDArray[np.float64]) -> None:
        """Move the proportions towards those of the solution, as far as it is more than them again."""
        told = np.diag(self._gram) / (np.diag(self._gram) + hold)
        self._proportions += _PACE * told * (self._factors / self._common - self._proportions)

    def _row(self, works: Sequence[Work]) -> npt.NDArray[np.float64]:
        """A step as the prior prices it, coefficient by coefficient."""
        for work in works:
            self._place(work.group)
        row = np.zeros(len(self._prior))
        row[0] = 1.0
        for work in works:
            start = self._groups[work.group]
            row[start] += work.megapixels
            row[start + 1] += work.megapixels * work.compared
            row[start + 2 if work.whole else start + 3] += work.megapixels * work.share
        return np.asarray(row * self._prior)

    def _place(self, group: str) -> int:
        if group not in self._groups:
            old, more = len(self._prior), _OF_A_GROUP
            self._groups[group] = old
            self._prior = np.append(self._prior, PRIOR[1:])
            self._factors = np.append(self._factors, [self._common] * more)
            self._proportions = np.append(self._proportions, [1.0] * more)
            self._gram = np.pad(self._gram, (0, more))
            self._moment = np.append(self._moment, [0.0] * more)
        return self._groups[group]
