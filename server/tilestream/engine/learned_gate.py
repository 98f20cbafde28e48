"""The learned gate: computes where its network expects moved labels to be wrong."""

from __future__ import annotations

import numpy as np

from tilestream.engine.cells import CELL
from tilestream.engine.gate import BoolArray, Gate, GateDecision, GateInput, first_bins, make_gate
from tilestream.engine.gate_weights import load_gate
from tilestream.engine.risk import RiskNet
from tilestream.messages import Float32Array

LEARNED = ("learned", "learned_spread")
"""Names of gates that have to be trained, see :func:`load_gate_named`."""

QUIET = 0.004
"""Share of wrong pixels up to which a frame is as good as computed: below it nothing is."""


MAX_AGE = 16.0
"""Frames after which a bin is computed whatever its risk: training has seen none that are older, and
features that are moved for longer drift without anything telling."""


STILL_AGE = 150.0
"""Frames, ten seconds at 15 Hz, after which the risk counts even where nothing but noise was seen since, so
that what is too faint to be told from noise does not stay unseen for long."""


class RiskGate:
    """Spends the budget on what would be wrong, and none of it on what would not.

    ``spread``: the riskiest bins of every frame, after those above :data:`MAX_AGE`, for an even latency.
    Without it whole frames, as soon as the budget has been saved up for one: more labels right for the
    same time, since a whole frame is run faster than its bins one by one. ``quiet``: see :data:`QUIET`.
    """

    needs_cells = True

    def __init__(self, *, spread: bool = False, quiet: float = QUIET) -> None:
        self._spread, self._quiet = spread, quiet
        self.reuses_features = spread

    def risk(self, frame: GateInput) -> Float32Array:
        """Expected share of wrong pixels of every bin, float32 [bins_h, bins_w]."""
        raise NotImplementedError

    def unchanged(self, frame: GateInput) -> BoolArray:
        """Bool [bins_h, bins_w]: of these bins the network would say the same, so that there is no risk."""
        return np.zeros(frame.signals.age.shape, dtype=np.bool_)

    def decide(self, frame: GateInput) -> GateDecision:
        """Never more than the session's credit pays for."""
        keep = np.zeros(frame.signals.age.shape, dtype=np.bool_)
        if frame.signals.scene_cut:
            return _decision(frame, ~keep)
        unchanged = self.unchanged(frame)
        if unchanged.all():
            return _decision(frame, keep)
        risk = np.where(unchanged, np.float32(0), self.risk(frame))
        if frame.budget <= 0 or risk.mean() < self._quiet:
            return _decision(frame, keep)
        if not self._spread:
            keep[...] = frame.credit >= 1.0 - 1e-6
            return _decision(frame, keep)
        affordable = int(np.floor(max(frame.credit, 0.0) * keep.size + 1e-6))
        overdue = (frame.signals.age > MAX_AGE) & ~unchanged
        wanted = min(affordable, int(np.count_nonzero((risk >= self._quiet) & ~unchanged | overdue)))
        order = np.lexsort((-risk.ravel(), -np.where(overdue, frame.signals.age, 0).ravel()))
        return _decision(frame, first_bins(order, wanted, keep.shape))


class LearnedGate(RiskGate):
    """The risk is what a trained network expects."""

    def __init__(
        self, network: RiskNet, bin_size: int, *, spread: bool = False, quiet: float = QUIET
    ) -> None:
        super().__init__(spread=spread, quiet=quiet)
        self._network, self._side = network.eval(), bin_size // CELL

    def unchanged(self, frame: GateInput) -> BoolArray:
        """What was computed from the same picture: what noise makes the network say is no more right."""
        age = frame.signals.age
        return np.asarray((age <= min(frame.still_frames, STILL_AGE)) & (frame.still_frames > 0))

    def risk(self, frame: GateInput) -> Float32Array:
        """As the base class says; cells outside of the frame do not count."""
        if frame.cells is None:
            raise ValueError("the learned gate needs the frame's cells")
        found = self._network.risk(frame.cells)
        bins = frame.signals.age.shape
        inside = np.zeros((bins[0] * self._side, bins[1] * self._side), dtype=np.float32)
        padded = inside.copy()
        inside[: found.shape[0], : found.shape[1]] = 1
        padded[: found.shape[0], : found.shape[1]] = found
        blocks = (bins[0], self._side, bins[1], self._side)
        total = padded.reshape(blocks).sum(axis=(1, 3))
        return np.asarray(total / inside.reshape(blocks).sum(axis=(1, 3)), dtype=np.float32)


def load_gate_named(name: str, model: str, bin_size: int) -> Gate:
    """The gate of that name for a model: one of :data:`LEARNED`, or what ``make_gate`` knows.

    Raises :class:`EngineError` where the model has no learned gate, ValueError for another name.
    """
    if name in LEARNED:
        return LearnedGate(load_gate(model), bin_size, spread=name == "learned_spread")
    return make_gate(name)


def _decision(frame: GateInput, keep: BoolArray) -> GateDecision:
    return GateDecision(bool(keep.all()), np.broadcast_to(keep, (frame.units, *keep.shape)))
