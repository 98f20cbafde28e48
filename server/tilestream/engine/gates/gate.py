"""Which residual blocks to compute in which bins: the interface of gates, and those that need no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.motion.estimators import Motion
from tilestream.messages import Float32Array

BoolArray = npt.NDArray[np.bool_]

GATES = ("every_k", "threshold", "budget")
"""The names that :func:`make_gate` knows."""

AGE_WEIGHT = 1.0
"""Luma steps that a frame of age counts as.

Features that are moved again and again lose sharpness even where the luma fits. Labels do not: moving
labels instead of features would put this at 0 to 0.5.
"""

PEAK_WEIGHT = 0.3
"""What the peak counts for in a bin's score, against its mean.

Up to half a point of mIoU over the mean alone where labels are moved along a clip and 15 to 25 % of the
bins are recomputed, and nothing lost elsewhere.
"""

MAX_AGE = 30.0
"""Frames, two seconds at 15 Hz. Measured in the same way, half of it costs up to 1.7 points at 15 %."""

THRESHOLD = 10.0
"""Luma steps. A third of the bins in clips of 15 Hz driving."""


@dataclass(frozen=True, slots=True)
class GateInput:
    """What a gate decides on.

    ``budget``: share (0..1] of the block units this frame may compute.
    ``frames_since_key``: 1 for the frame after a key frame.
    ``units``: residual blocks of the network.
    ``credit``: key frames' worth of budget that earlier frames and this one have left over; below 0 where
    they took more than their share.
    ``cells``: gives float32 [channels, h, w], see ``cell_features``, for 1.5 ms.
    ``motion``: what brought the previous frame here.
    ``risk_scale``: how many times as much of the session's computed bins was wrong as its gate had expected.
    ``limit``: share of the block units that may be computed now, whatever the credit pays for.
    ``looks``: whole frames that the labels are the mean of, all of them at one unmoved scene; 0 where labels
    are not averaged.
    """

    signals: BinSignals
    budget: float
    frames_since_key: int
    units: int
    credit: float = 0.0
    cells: Callable[[], Float32Array] | None = None
    motion: Motion | None = None
    risk_scale: float = 1.0
    limit: float = 1.0
    looks: int = 0


@dataclass(frozen=True, slots=True)
class GateDecision:
    """``keep``: bool [units, bins_h, bins_w], what to compute: all of it in a key frame.

    Masks may share memory between units: not to be written to. ``risk``: float32 [bins_h, bins_w], the share
    of pixels that the gate expects to be wrong, before ``risk_scale``; 0 where it does not judge; None if it
    never does.
    """

    key_frame: bool
    keep: BoolArray
    risk: Float32Array | None = None


class Gate(Protocol):
    """Decides frame by frame. Keeps nothing between frames, so that one gate serves all sessions.

    ``reuses_features``: False if it only ever keeps all bins or none. Then labels are all that is reused, and
    sessions have no features.
    """

    reuses_features: bool

    def decide(self, frame: GateInput) -> GateDecision:
        """What to compute of ``frame``. The same input, the same answer.

        A scene cut is a key frame. Otherwise no more is kept than ``frame.limit``.
        """


class EveryKGate:
    """A key frame every ``k`` frames and nothing in between: what every other gate has to beat.

    With ``k`` None it follows the budget: a key frame whenever the session's credit pays for one. Their
    distance is 1 / budget, and where that is no whole number it alternates between the two beside it.
    """

    reuses_features = False

    def __init__(self, k: int | None = None) -> None:
        if k is not None and k < 1:
            raise ValueError(f"a key frame every {k} frames is impossible")
        self._k = k

    def decide(self, frame: GateInput) -> GateDecision:
        """All or nothing."""
        if frame.signals.scene_cut:
            return _key_frame(frame)
        due = pays_for_whole(frame) if self._k is None else frame.frames_since_key >= self._k
        due = due and frame.limit >= 1.0
        nothing = np.zeros_like(frame.signals.age, dtype=np.bool_)
        return _key_frame(frame) if due else decision(frame, nothing)


class ThresholdGate:
    """Bins whose score is above a threshold, the highest first where the budget does not reach for all.

    Its cost follows the scene: nothing in front of a traffic light, all of the budget in a turn.
    """

    reuses_features = True

    def __init__(
        self, threshold: float = THRESHOLD, age_weight: float = AGE_WEIGHT, peak_weight: float = PEAK_WEIGHT
    ) -> None:
        """``threshold`` in luma steps; for the weights see :func:`score`."""
        self._threshold = threshold
        self._age_weight = age_weight
        self._peak_weight = peak_weight

    def decide(self, frame: GateInput) -> GateDecision:
        """Zero bins up to the budget's."""
        if frame.signals.scene_cut:
            return _key_frame(frame)
        scores = score(frame.signals, self._age_weight, self._peak_weight)
        count = min(_affordable(frame, scores.size), int(np.count_nonzero(scores > self._threshold)))
        return decision(frame, first_bins(np.argsort(-scores, axis=None, kind="stable"), count, scores.shape))


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

    def decide(self, frame: GateInput) -> GateDecision:
        """floor(budget * bins) bins, at least one unless the budget is 0."""
        if frame.signals.scene_cut:
            return _key_frame(frame)
        age = frame.signals.age
        scores = score(frame.signals, self._age_weight, self._peak_weight)
        overdue = np.where(age > self._max_age, age, np.float32(0))
        # lexsort is stable and sorts by its last key first
        order = np.lexsort((-scores.ravel(), -overdue.ravel()))
        return decision(frame, first_bins(order, _affordable(frame, age.size), age.shape))


def score(
    signals: BinSignals, age_weight: float = AGE_WEIGHT, peak_weight: float = PEAK_WEIGHT
) -> Float32Array:
    """How much a bin wants to be computed, in luma steps: float32 [bins_h, bins_w].

    The accumulated distortion, ``peak_weight`` (0..1) of it taken from the peak instead of the mean,
    and ``age_weight`` luma steps for every frame of age.
    """
    distortion = signals.distortion + np.float32(peak_weight) * (signals.peak - signals.distortion)
    return np.asarray(distortion + np.float32(age_weight) * signals.age, dtype=np.float32)


def make_gate(
    name: str,
    *,
    k: int | None = None,
    threshold: float = THRESHOLD,
    age_weight: float = AGE_WEIGHT,
    peak_weight: float = PEAK_WEIGHT,
    max_age: float = MAX_AGE,
) -> Gate:
    """The gate of that name, see :data:`GATES`; each takes the settings it knows and leaves the others.

    Raises ValueError for another name.
    """
    if name == "every_k":
        return EveryKGate(k)
    if name == "threshold":
        return ThresholdGate(threshold, age_weight, peak_weight)
    if name == "budget":
        return BudgetGate(age_weight, peak_weight, max_age)
    raise ValueError(f"no gate is called {name!r}; there are {', '.join(GATES)}")


def pays_for_whole(frame: GateInput) -> bool:
    """Whether the session has saved up for a frame in full, and now is the time for one."""
    paid = frame.budget > 0 and frame.credit >= 1.0 - 1e-6  # a third three times is a little less than 1
    return paid and frame.limit >= 1.0


def _affordable(frame: GateInput, bins: int) -> int:
    """How many of ``bins`` the budget pays for."""
    budget = min(frame.budget, frame.limit)
    if budget <= 0:
        return 0
    # 0.29 * 100 is a little less than 29
    return min(bins, max(1, floor(budget * bins + 1e-6)))


def first_bins(order: npt.NDArray[np.intp], count: int, shape: tuple[int, ...]) -> BoolArray:
    """Bool of ``shape``: the first ``count`` positions of ``order``."""
    keep = np.zeros(order.size, dtype=np.bool_)
    keep[order[:count]] = True
    return keep.reshape(shape)


def decision(frame: GateInput, keep: BoolArray, risk: Float32Array | None = None) -> GateDecision:
    """The same mask ``keep`` [bins_h, bins_w] for all units; all bins are a key frame."""
    masks = np.broadcast_to(keep, (frame.units, *keep.shape))
    return GateDecision(key_frame=bool(keep.all()), keep=masks, risk=risk)


def _key_frame(frame: GateInput) -> GateDecision:
    return decision(frame, np.ones_like(frame.signals.age, dtype=np.bool_))
