"""The refresh gate: whole frames as anchors, and between them the bins whose labels are in doubt."""

from __future__ import annotations

import torch
from torch import Tensor

from tilestream.engine.gates.gate import GateDecision, GateInput, first_bins
from tilestream.engine.gates.still import still, unchecked
from tilestream.scheduling.rhythm import Rhythm


class RefreshGate:
    """Keeps the rhythm that a session's budget pays for, see :class:`Rhythm`; nothing while nothing moves."""

    reuses_features = refreshes = True

    def decide(self, frames: GateInput) -> GateDecision:
        """Never more than a session's credit pays for, nor than the limit."""
        moving = ~still(frames.signals)
        seen = moving.flatten(1).any(dim=1) | unchecked(frames)
        whole = frames.signals.scene_cut | (frames.pays_for_whole() & seen)
        keep = whole[:, None, None].expand(-1, *frames.bins).clone()
        counts = torch.where(whole, 0, torch.minimum(self._due(frames), moving.sum(dim=(1, 2))))
        which = torch.nonzero(counts).flatten().tolist()
        if which:
            if frames.doubt is None:
                raise ValueError("the refresh gate needs to know where labels are in doubt")
            keep[which] = first_bins((-frames.doubt(which),), counts[which])
        return GateDecision.of_bins(frames, keep)

    def _due(self, frames: GateInput) -> Tensor:
        """Int64 [N]: bins that a refresh of each frame computes, 0 where none is due."""
        rows, columns = frames.bins
        may = torch.minimum(frames.credit, frames.limit).clamp(min=0.0).tolist()
        counts = []
        for index, budget in enumerate(frames.budget.tolist()):
            share = 0.0
            # Where labels wait for the next whole frame, it is then that bins are computed, see LookAhead.
            if budget > 0.0 and not frames.looks_ahead[index]:
                rhythm = Rhythm.of(budget)
                if rhythm.due(int(frames.since_source[index]), int(frames.refreshed[index])):
                    share = min(rhythm.share, may[index])
            counts.append(int(share * rows * columns + 1e-6))
        return torch.tensor(counts)
