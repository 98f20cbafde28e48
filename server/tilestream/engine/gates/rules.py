"""Gates that need no training."""

from __future__ import annotations

import torch
from torch import Tensor

from tilestream.engine.gates.gate import GateDecision, GateInput, first_bins
from tilestream.engine.motion.distortion import BinSignals

AGE_WEIGHT = 1.0
"""Luma steps that a frame of age counts as.

Features that are moved again and again lose sharpness even where the luma fits. Labels do not: warping
labels instead of features would put this at 0 to 0.5.
"""

PEAK_WEIGHT = 0.3
"""What the peak counts for in a bin's score, against its mean.

Up to half a point of mIoU over the mean alone where labels are moved along a clip and 15 to 25 % of the
bins are recomputed, and nothing lost elsewhere.
"""

MAX_AGE = 30.0
"""Frames, two seconds at 15 Hz. Measured in the same way, half of it costs up to 1.7 points at 15 %."""


class EveryKGate:
    """A whole frame every ``k`` frames and nothing in between: what every other gate has to beat.

    With ``k`` None it follows the budget: a whole frame whenever the session's credit pays for one. Their
    distance is 1 / budget, and where that is no whole number it alternates between the two beside it.
    """

    reuses_features = False

    def __init__(self, k: int | None = None) -> None:
        if k is not None and k < 1:
            raise ValueError(f"a whole frame every {k} frames is impossible")
        self._k = k

    def decide(self, frames: GateInput) -> GateDecision:
        """All or nothing."""
        due = frames.pays_for_whole() if self._k is None else frames.since_whole >= self._k
        whole = frames.signals.scene_cut | (due & (frames.limit >= 1.0))
        return GateDecision.whole_or_nothing(frames, whole)


class BudgetGate:
    """As many bins as the budget pays for, those with the highest score.

    Rolling refresh: bins older than ``max_age`` frames come before all others, the oldest first. So a
    bin is computed within ``max_age`` frames and as many more as the budget needs for all bins once.
    """

    reuses_features = True

    def __init__(
        self, age_weight: float = AGE_WEIGHT, peak_weight: float = PEAK_WEIGHT, max_age: float = MAX_AGE
    ) -> None:
        """``max_age`` in frames; for the weights see :func:`score`."""
        self._age_weight = age_weight
        self._peak_weight = peak_weight
        self._max_age = max_age

    def decide(self, frames: GateInput) -> GateDecision:
        """floor(budget * bins) bins, at least one unless the budget is 0."""
        age = frames.signals.age
        scores = score(frames.signals, self._age_weight, self._peak_weight)
        overdue = torch.where(age > self._max_age, age, 0.0)
        keep = first_bins((-overdue, -scores), _affordable(frames))
        return GateDecision.of_bins(frames, keep | frames.signals.scene_cut[:, None, None])


def score(signals: BinSignals, age_weight: float = AGE_WEIGHT, peak_weight: float = PEAK_WEIGHT) -> Tensor:
    """How much a bin wants to be computed, in luma steps: float32 [N, bins_h, bins_w].

    The accumulated distortion, ``peak_weight`` (0..1) of it taken from the peak instead of the mean,
    and ``age_weight`` luma steps for every frame of age.
    """
    distortion = signals.distortion + peak_weight * (signals.peak - signals.distortion)
    return distortion + age_weight * signals.age


def _affordable(frames: GateInput) -> Tensor:
    """Int64 [N]: how many bins the budget pays for."""
    rows, columns = frames.bins
    bins, budget = rows * columns, torch.minimum(frames.budget, frames.limit)
    # 0.29 * 100 is a little less than 29
    count = torch.floor(budget * bins + 1e-6).clamp(1, bins).long()
    return torch.where(budget > 0, count, 0)
