"""The learned gate: computes where its network expects moved labels to be wrong."""

from __future__ import annotations

import numpy as np

from tilestream.engine.gates.cells import CELL
from tilestream.engine.gates.gate import (
    BoolArray,
    Gate,
    GateDecision,
    GateInput,
    decision,
    first_bins,
    make_gate,
    pays_for_whole,
)
from tilestream.engine.gates.risk_net import RiskNet
from tilestream.engine.gates.weights import gate_path, load_gate
from tilestream.engine.motion.distortion import BinSignals
from tilestream.messages import Float32Array

LEARNED = ("learned", "learned_spread")
"""Names of gates that have to be trained, see :func:`load_gate_named`."""

QUIET = 0.004
"""Share of wrong pixels up to which a frame is as good as computed: below it nothing is."""

CHECK_AFTER = 64.0
"""Frames, four seconds at 15 Hz, after which even a quiet scene is computed, as far as the credit goes: for
1.6 % of the work, a gate that has gone blind is noticed."""

LOOK_AFTER = 8.0
"""Frames after which a scene in which nothing moves is computed a second time, where labels are averaged; a
third time after twice as many, and so on up to :data:`CHECK_AFTER`. One look says what noise makes it say."""

STILL_MOTION = 1.0
"""Image pixels, mean of a bin. Noise makes the motion of a bin without texture jump by as much."""

STILL_DISTORTION = 1.5
"""Luma steps since the bin was computed: what strong noise leaves after 20 frames of a still scene. Driving
adds 1.2 to 3 in every frame of 15 Hz, mean over the bins."""

MAX_AGE = 16.0
"""Frames after which a bin comes first whatever its risk, in a frame of which anything is computed: training
has seen none that are older, and features that are moved for longer drift without anything telling."""


class RiskGate:
    """Spends the budget on what would be wrong; while next to nothing would be, it spends none.

    ``spread``: the riskiest bins of every frame, after those above :data:`MAX_AGE`, for an even latency.
    Without it whole frames, as soon as the budget has been saved up for one: more labels right for the
    same time, since a whole frame is run faster than its bins one by one. ``quiet``: see :data:`QUIET`.
    """

    def __init__(self, *, spread: bool = False, quiet: float = QUIET) -> None:
        self._spread, self._quiet = spread, quiet
        self.reuses_features = spread

    def risk(self, frame: GateInput) -> Float32Array:
        """Expected share of wrong pixels of every bin, float32 [bins_h, bins_w]."""
        raise NotImplementedError

    def decide(self, frame: GateInput) -> GateDecision:
        """Never more than the session's credit pays for, nor than the limit."""
        keep = np.zeros(frame.signals.age.shape, dtype=np.bool_)
        if frame.signals.scene_cut:
            return decision(frame, ~keep)
        if frame.budget <= 0 or not (self._spread or pays_for_whole(frame)):
            return decision(frame, keep)  # whatever the risk
        expected = self.risk(frame)
        risk = expected * np.float32(frame.risk_scale)
        look_after = LOOK_AFTER * 2 ** (frame.looks - 1) if frame.looks else CHECK_AFTER
        unchecked = frame.signals.age.mean() > min(look_after, CHECK_AFTER)
        if risk.mean() < self._quiet and not unchecked:
            return decision(frame, keep, expected)
        if not self._spread:
            return decision(frame, ~keep, expected)
        affordable = int(np.floor(max(min(frame.credit, frame.limit), 0.0) * keep.size + 1e-6))
        overdue = frame.signals.age > MAX_AGE
        wanted = min(affordable, int(np.count_nonzero((risk >= self._quiet) | overdue)))
        order = np.lexsort((-risk.ravel(), -np.where(overdue, frame.signals.age, 0).ravel()))
        return decision(frame, first_bins(order, wanted, keep.shape), expected)


class LearnedGate(RiskGate):
    """The risk is what a trained network expects."""

    def __init__(
        self, network: RiskNet, bin_size: int, *, spread: bool = False, quiet: float = QUIET
    ) -> None:
        super().__init__(spread=spread, quiet=quiet)
        self._network, self._side = network.eval(), bin_size // CELL

    def risk(self, frame: GateInput) -> Float32Array:
        """As the base class says; 0 in still bins. Cells outside of the frame do not count."""
        if frame.cells is None:
            raise ValueError("the learned gate needs the frame's cells")
        bins = frame.signals.age.shape
        still = _still(frame.signals)
        if still.all():
            return np.zeros(bins, dtype=np.float32)
        found = self._network.risk(frame.cells())
        inside = np.zeros((bins[0] * self._side, bins[1] * self._side), dtype=np.float32)
        padded = inside.copy()
        inside[: found.shape[0], : found.shape[1]] = 1
        padded[: found.shape[0], : found.shape[1]] = found
        blocks = (bins[0], self._side, bins[1], self._side)
        total = padded.reshape(blocks).sum(axis=(1, 3))
        risk = total / inside.reshape(blocks).sum(axis=(1, 3))
        return np.where(still, np.float32(0), risk).astype(np.float32)


def _still(signals: BinSignals) -> BoolArray:
    """Bins [bins_h, bins_w] in which nothing moves or has changed: there, old labels are as good as new ones.

    New ones would differ, as noise alone makes a network change its mind about 0.4 to 1.6 % of the pixels,
    and clips of driving have taught the gate to expect that and more everywhere.
    """
    return np.asarray((signals.motion < STILL_MOTION) & (signals.distortion < STILL_DISTORTION))


def load_gate_named(name: str, model: str, bin_size: int) -> Gate:
    """The gate of that name for a model: one of :data:`LEARNED`, or what ``make_gate`` knows.

    ``auto``: ``learned`` if there is one for the model, else ``every_k``. Raises :class:`EngineError` where
    the model has no learned gate, or one that does not fit; ValueError for another name.
    """
    if name == "auto":
        name = "learned" if gate_path(model).is_file() else "every_k"
    if name in LEARNED:
        return LearnedGate(load_gate(model), bin_size, spread=name == "learned_spread")
    return make_gate(name)
