"""The learned gate: computes where its network expects warped labels to be wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.gates.cells import CELL
from tilestream.engine.gates.gate import GateDecision, GateInput, first_bins
from tilestream.engine.gates.risk_net import RiskNet
from tilestream.engine.gates.still import still, unchecked

QUIET = 0.004
"""Share of wrong pixels up to which a frame is as good as computed: below it nothing is."""

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

    def risk(self, frames: GateInput, which: list[int]) -> Tensor:
        """Expected share of wrong pixels of the bins of the frames ``which``: float32 [K, bins_h, bins_w]."""
        raise NotImplementedError

    def decide(self, frames: GateInput) -> GateDecision:
        """Never more than a session's credit pays for, nor than the limit."""
        signals = frames.signals
        may = (frames.budget > 0) & ~signals.scene_cut
        if not self._spread:
            may &= frames.pays_for_whole()
        which, expected = torch.nonzero(may).flatten().tolist(), torch.zeros_like(signals.age)
        if not which:  # whatever the risk
            return GateDecision.whole_or_nothing(frames, signals.scene_cut, expected)
        expected[which] = self.risk(frames, which)
        risk = expected * frames.risk_scale[:, None, None]
        wanted = may & ((risk.mean(dim=(1, 2)) >= self._quiet) | unchecked(frames))
        if not self._spread:
            return GateDecision.whole_or_nothing(frames, wanted | signals.scene_cut, expected)
        overdue = signals.age > MAX_AGE
        worth = ((risk >= self._quiet) | overdue).sum(dim=(1, 2))
        counts = torch.where(wanted, torch.minimum(_affordable(frames), worth), 0)
        keep = first_bins((-torch.where(overdue, signals.age, 0.0), -risk), counts)
        return GateDecision.of_bins(frames, keep | signals.scene_cut[:, None, None], expected)


class LearnedGate(RiskGate):
    """The risk is what a trained network expects."""

    def __init__(
        self, network: RiskNet, bin_size: int, *, spread: bool = False, quiet: float = QUIET
    ) -> None:
        super().__init__(spread=spread, quiet=quiet)
        self._network, self._side = network.eval(), bin_size // CELL

    def risk(self, frames: GateInput, which: list[int]) -> Tensor:
        """As the base class says; 0 in still bins. Cells outside of the frame do not count."""
        quiet = still(frames.signals)[which]
        if frames.expected is not None:
            return torch.where(quiet, 0.0, frames.expected[which])
        if frames.cells is None:
            raise ValueError("the learned gate needs the frame's cells")
        risk = torch.zeros(quiet.shape)
        moving = torch.nonzero(~quiet.flatten(1).all(dim=1)).flatten().tolist()
        if moving:
            found = self._network.risk(frames.cells([which[index] for index in moving]))
            risk[moving] = self._per_bin(found, frames.bins)
        return torch.where(quiet, 0.0, risk)

    def on(self, device: torch.device) -> Callable[[Tensor, tuple[int, int]], Tensor]:
        """A function that makes ``GateInput.expected`` on that device, from a copy of the network.

        It takes cells, float32 [N, channels, h, w] as ``cell_features`` gives them, and the rows and columns
        of bins; it returns float32 [N, bins_h, bins_w].
        """
        network = copy.deepcopy(self._network).to(device)

        def expected(cells: Tensor, bins: tuple[int, int]) -> Tensor:
            return self._per_bin(torch.sigmoid(network(cells)), bins)

        return expected

    def _per_bin(self, cells: Tensor, bins: tuple[int, int]) -> Tensor:
        """Means over the cells [K, h, w] of every bin that lie inside of the frame: [K, bins_h, bins_w]."""
        (rows, columns), side = bins, self._side
        border = (0, columns * side - cells.shape[2], 0, rows * side - cells.shape[1])
        inside = F.pad(torch.ones_like(cells[:1]), border)
        total, count = (
            maps.reshape(-1, rows, side, columns, side).sum(dim=(2, 4))
            for maps in (F.pad(cells, border), inside)
        )
        return total / count


def _affordable(frames: GateInput) -> Tensor:
    """Int64 [N]: how many bins the credit pays for, within the limit."""
    rows, columns = frames.bins
    share = torch.minimum(frames.credit, frames.limit).clamp(min=0.0)
    return torch.floor(share * (rows * columns) + 1e-6).long()
