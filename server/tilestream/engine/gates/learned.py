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
from tilestream.engine.motion.distortion import BinSignals

QUIET = 0.004
"""Share of wrong pixels up to which a frame is as good as computed: below it nothing is."""

CHECK_AFTER = 64.0
"""Frames, four seconds at 15 Hz, after which even a quiet scene is computed, as far as the credit goes: for
1.6 % of the work, a gate that has gone blind is noticed."""

AVERAGE_AFTER = 8.0
"""Frames after which a scene in which nothing moves is computed a second time, where labels are averaged; a
third time after twice as many, and so on up to :data:`CHECK_AFTER`. One says what noise makes it say."""

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
        wanted = may & ((risk.mean(dim=(1, 2)) >= self._quiet) | self._unchecked(frames))
        if not self._spread:
            return GateDecision.whole_or_nothing(frames, wanted | signals.scene_cut, expected)
        overdue = signals.age > MAX_AGE
        worth = ((risk >= self._quiet) | overdue).sum(dim=(1, 2))
        counts = torch.where(wanted, torch.minimum(_affordable(frames), worth), 0)
        keep = first_bins((-torch.where(overdue, signals.age, 0.0), -risk), counts)
        return GateDecision.of_bins(frames, keep | signals.scene_cut[:, None, None], expected)

    def _unchecked(self, frames: GateInput) -> Tensor:
        """Bool [N]: what was computed so long ago that it is looked at again, even where nothing happens."""
        average_after = AVERAGE_AFTER * 2.0 ** (frames.averaged - 1)
        after = torch.where(frames.averaged > 0, average_after.clamp(max=CHECK_AFTER), CHECK_AFTER)
        return frames.signals.age.mean(dim=(1, 2)) > after


class LearnedGate(RiskGate):
    """The risk is what a trained network expects."""

    def __init__(
        self, network: RiskNet, bin_size: int, *, spread: bool = False, quiet: float = QUIET
    ) -> None:
        super().__init__(spread=spread, quiet=quiet)
        self._network, self._side = network.eval(), bin_size // CELL

    def risk(self, frames: GateInput, which: list[int]) -> Tensor:
        """As the base class says; 0 in still bins. Cells outside of the frame do not count."""
        still = _still(frames.signals)[which]
        if frames.expected is not None:
            return torch.where(still, 0.0, frames.expected[which])
        if frames.cells is None:
            raise ValueError("the learned gate needs the frame's cells")
        risk = torch.zeros(still.shape)
        moving = torch.nonzero(~still.flatten(1).all(dim=1)).flatten().tolist()
        if moving:
            found = self._network.risk(frames.cells([which[index] for index in moving]))
            risk[moving] = self._per_bin(found, frames.bins)
        return torch.where(still, 0.0, risk)

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


def _still(signals: BinSignals) -> Tensor:
    """Bins [N, bins_h, bins_w] in which nothing moves or has changed: there, old labels are as good as new.

    New ones would differ, as noise alone makes a network change its mind about 0.4 to 1.6 % of the pixels,
    and clips of driving have taught the gate to expect that and more everywhere.
    """
    return (signals.motion < STILL_MOTION) & (signals.distortion < STILL_DISTORTION)


def _affordable(frames: GateInput) -> Tensor:
    """Int64 [N]: how many bins the credit pays for, within the limit."""
    rows, columns = frames.bins
    share = torch.minimum(frames.credit, frames.limit).clamp(min=0.0)
    return torch.floor(share * (rows * columns) + 1e-6).long()
