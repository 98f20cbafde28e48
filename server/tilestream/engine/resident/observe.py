"""What is known of frames before anything of them is computed, for a batch on the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tilestream.engine.gates.learned import LearnedGate
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.resident.cells import LABEL_STEP, cell_features
from tilestream.engine.resident.distortion import BatchTracker
from tilestream.engine.resident.frames import Batch
from tilestream.engine.resident.motion import estimate, show_the_same
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.sampling import sample

_SIZES = 64  # of frames that are prepared for at a time


@dataclass(frozen=True, slots=True)
class Observation:
    """Of M compared frames: ``signals`` of their bins, bool [M] ``still`` and ``resembles`` (their session's latest
    whole frame), and ``risk``, float32 [M, bins_h, bins_w], what a trained gate expects, None without one.
    """

    signals: BinSignals
    still: Tensor
    resembles: Tensor
    risk: Tensor | None

    def parts(self) -> list[Tensor]:
        """All of its tensors."""
        tensors = [getattr(self.signals, name) for name in BinSignals.__slots__]
        tensors += [self.still, self.resembles]
        return tensors if self.risk is None else [*tensors, self.risk]

    @classmethod
    def of(cls, parts: list[Tensor]) -> Observation:
        """From :meth:`parts`, wherever they lie now."""
        count = len(BinSignals.__slots__)
        still, resembles, *risk = parts[count:]
        return cls(BinSignals(*parts[:count]), still, resembles, risk[0] if risk else None)


class Observer:
    """Compares frames with those before them. ``gate``: one whose risk is reckoned beside it, if there is one."""

    def __init__(
        self, program: TileProgram, ops: Operations, device: torch.device, gate: LearnedGate | None
    ) -> None:
        self._program, self._ops, self._device = program, ops, device
        self._expected = None if gate is None else gate.on(device)
        self._classes = program.nodes[program.output].channels
        self.tracker = lru_cache(maxsize=_SIZES)(self._make_tracker)

    def _make_tracker(self, size: tuple[int, int]) -> BatchTracker:
        scale = thumbnail_scale(*size)
        shape = (-(-size[0] // scale), -(-size[1] // scale))
        return BatchTracker(self._program.bin_size, self._program.bins(*size), scale, shape, self._device)

    def observe(self, batch: Batch) -> Observation | None:
        """Look at a batch; the slots of its compared frames follow the motion. None: nothing is compared."""
        scale = thumbnail_scale(*batch.size)
        batch.luma = self._ops.luma(batch.pixels, scale)
        table, slots = batch.table, batch.slots
        if table is None or slots is None or not batch.compared:
            return None
        current, previous = batch.luma[: batch.compared], table.luma[slots]
        motion = estimate(self._ops, previous, current, table.flow[slots])
        tracker = self.tracker(batch.size)
        found = tracker.advance(table.distortion[slots], current, motion)
        displacement = table.displacement[slots]
        reference = torch.where(motion.still[:, None, None], previous, current)
        risk = None
        if self._expected is not None:
            few = self._ops.moved_labels(table.labels, slots, displacement, scale, LABEL_STEP)
            cells = cell_features(few, self._classes, found.fine, tracker.cell, motion, scale, reference)
            risk = self._expected(cells, self._program.bins(*batch.size))
        resembles = show_the_same(table.score_luma[slots], current)
        table.displacement[slots] = motion.flow + sample(displacement, motion.flow)
        table.distortion[slots] = found.state
        table.luma[slots] = reference
        table.flow[slots] = torch.where(found.signals.scene_cut[:, None, None, None], 0.0, motion.flow)
        return Observation(found.signals, motion.still, resembles, risk)
