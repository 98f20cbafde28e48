"""What can decide, in an evaluation, how a video's frames are computed: gates, and what they have to beat."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.gates.gate import Gate, GateDecision, GateInput
from tilestream.engine.gates.learned import QUIET, RiskGate
from tilestream.engine.gates.registry import GATES, load_gate
from tilestream.engine.gates.rules import BudgetGate, EveryKGate
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.options import FUSION
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.messages import UInt8Array
from tilestream.scheduling.rhythm import REFRESH

_GATES = tuple(name for name in GATES if name not in ("every_k", "budget"))  # those have names of their own

LOOK_AHEAD = {"look_ahead": "auto", "look_ahead_refresh": REFRESH}
"""Methods whose labels may wait for later frames, and their gates."""

METHODS = (
    *_GATES,
    *LOOK_AHEAD,
    "baseline",
    "random",
    "every_k",
    "every_k_fused",
    "half_resolution",
    "oracle",
)
"""``baseline``: the gate by distortion and age. ``oracle``: knows the dense labels.

``every_k`` is what is to be beaten: whole frames, labels moved in between, and nothing else;
``every_k_fused``: the gate ``every_k`` as it is shipped.
"""

HALF_RESOLUTION = "half_resolution"

UNLABELLED = (*_GATES, *LOOK_AHEAD, "baseline", "random", "every_k", "every_k_fused")
"""Those that a video without labels can be played with."""


class RandomGate:
    """Any bins, as many as the budget pays for."""

    reuses_features = True

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def decide(self, frames: GateInput) -> GateDecision:
        """A scene cut is a whole frame, as for all gates."""
        rows, columns = frames.bins
        chosen = [
            self._random.permutation(rows * columns) < int(budget * rows * columns)
            for budget in frames.budget.tolist()
        ]
        keep = torch.from_numpy(np.stack(chosen)).view(-1, rows, columns)
        return GateDecision.of_bins(frames, keep | frames.signals.scene_cut[:, None, None])


class OracleGate(RiskGate):
    """Knows which warped labels are wrong: for reference only, as :meth:`tell` needs the dense labels."""

    def __init__(self, bin_size: int, *, spread: bool = True, quiet: float = QUIET) -> None:
        super().__init__(spread=spread, quiet=quiet)
        self._bin = bin_size
        self._segment: StreamingSegmenter | None = None
        self._dense: UInt8Array | None = None

    def tell(self, segment: StreamingSegmenter, dense: UInt8Array) -> None:
        """What the next frame of ``segment`` would be labelled if it were computed in full."""
        self._segment, self._dense = segment, dense

    def risk(self, frames: GateInput, which: list[int]) -> Tensor:
        """The true share of wrong pixels of the one frame."""
        if (
            self._segment is None
            or self._segment.state is None
            or self._dense is None
            or frames.motion is None
        ):
            raise ValueError("the oracle has to be told the dense labels of each frame")
        labels = copy.deepcopy(self._segment.state.labels)
        labels.move(frames.motion.flow[0], frames.motion.scale)
        wrong = labels.plane(0).numpy() != self._dense
        rows, columns = frames.bins
        counts = np.zeros((rows * self._bin, columns * self._bin, 2), dtype=np.float32)
        counts[: wrong.shape[0], : wrong.shape[1]] = np.stack([wrong, np.ones_like(wrong)], axis=2)
        sums = counts.reshape(rows, self._bin, columns, self._bin, 2).sum(axis=(1, 3))
        return torch.from_numpy(sums[..., 0] / sums[..., 1])[None]


def make_method(name: str, model: str, bin_size: int) -> Gate:
    """The gate of a method; ``half_resolution`` has none. Raises ValueError for another name."""
    made: Gate
    if name in _GATES or name in LOOK_AHEAD:
        return load_gate(LOOK_AHEAD.get(name, name), model, bin_size)
    match name:
        case "baseline":
            made = BudgetGate()
        case "random":
            made = RandomGate()
        case "every_k" | "every_k_fused":
            made = EveryKGate()
        case "oracle":
            made = OracleGate(bin_size)
        case _:
            raise ValueError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    return made


def fusion_of(name: str) -> float:
    """The weight of score fusion in a method, see ``ReuseOptions``."""
    fused = name == "every_k_fused" or name in LOOK_AHEAD or name == REFRESH
    return FUSION if fused or (name in _GATES and not GATES[name].reuses_features) else 0.0


def frames_ahead(name: str, delay: int) -> int:
    """Frames that the labels of a method may wait, of ``delay`` that are allowed."""
    return delay if name in LOOK_AHEAD else 0


def motion_of(name: str) -> MotionEstimator | None:
    """The motion estimate that the registry names for a method; None for what suits its gate otherwise."""
    return GATES[name].motion() if name in _GATES else None
