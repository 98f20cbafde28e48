"""What is known of frames before anything of them is computed, for a batch on the device."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.gates.learned import LearnedGate
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.motion.luma import thumbnail_scale, thumbnail_shape
from tilestream.engine.resident.captured import Captured, GraphPool
from tilestream.engine.resident.cells import LABEL_STEP, cell_features
from tilestream.engine.resident.distortion import BatchTracker
from tilestream.engine.resident.frames import Batch, padded
from tilestream.engine.resident.motion import estimate, show_the_same
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.sampling import sample
from tilestream.engine.resident.search import FOR_LABELS, Search
from tilestream.engine.resident.slots import SlotTable
from tilestream.engine.resident.transfer import upload_all

_SIZES = 64  # of frames that are prepared for at a time


@dataclass(frozen=True, slots=True)
class Observation:
    """Of M frames that are compared with those before them.

    ``signals``: of their bins. Bool [M]: whether they are ``still``, see ``Motion``, and whether each
    ``resembles`` its session's latest whole frame. ``risk``: float32 [M, bins_h, bins_w], what a trained gate
    expects; None without one.
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
    """Compares frames with those before them. ``gate``: one whose risk is computed on the way, or None."""

    def __init__(
        self,
        program: TileProgram,
        ops: Operations,
        device: torch.device,
        gate: LearnedGate | None,
        pool: GraphPool,
        search: Search = FOR_LABELS,
    ) -> None:
        self._program, self._ops, self._device, self._pool = program, ops, device, pool
        self._search = search
        self._expected = None if gate is None else gate.on(device)
        self._classes = program.nodes[program.output].channels
        self.tracker = lru_cache(maxsize=_SIZES)(self._make_tracker)
        self._prepared: OrderedDict[tuple[int, ...], _Prepared] = OrderedDict()

    def _make_tracker(self, size: tuple[int, int]) -> BatchTracker:
        scale = thumbnail_scale(*size)
        return BatchTracker(
            self._program.bin_size, self._program.bins(*size), scale, thumbnail_shape(*size), self._device
        )

    def observe(self, batch: Batch) -> Observation | None:
        """Look at a batch; the slots of its compared frames follow the motion. None: nothing is compared."""
        table, compared, count = batch.table, batch.compared, len(batch.frames)
        scale = thumbnail_scale(*batch.size)
        if table is None or not compared:
            batch.luma = self._ops.luma(batch.pixels[:count], scale)
            return None
        prepared = self._prepare(batch, table)
        slots = np.zeros(len(prepared.slots), dtype=np.int64)
        slots[:compared] = [frame.slot or 0 for frame in batch.frames[:compared]]
        prepared.slots.copy_(upload_all([slots], self._device)[0])
        luma, observation = prepared.look()
        batch.luma = luma[:compared].clone()
        if count > compared:
            others = self._ops.luma(batch.pixels[compared:count], scale)
            batch.luma = torch.cat((batch.luma, others))
        return Observation.of([part[:compared].clone() for part in observation.parts()])

    def _prepare(self, batch: Batch, table: SlotTable) -> _Prepared:
        """For a batch of this size; anew where the memory is another one."""
        rows = padded(batch.compared)
        key = (*batch.size, rows)
        prepared = self._prepared.pop(key, None)
        if prepared is None or not prepared.fits(batch.pixels, table):
            slots = torch.zeros(rows, dtype=torch.int64, device=self._device)
            memory = _Memory.of(batch.pixels, table)
            tracker = self.tracker(batch.size)  # kept here: graphs read its tensors
            look = Captured(lambda: self._look(*memory.get(), slots, tracker), self._pool)
            prepared = _Prepared(slots, look, memory)
        self._prepared[key] = prepared
        if len(self._prepared) > _SIZES:
            self._prepared.popitem(last=False)
        return prepared

    def _look(
        self, pixels: Tensor, table: SlotTable, slots: Tensor, tracker: BatchTracker
    ) -> tuple[Tensor, Observation]:
        """Thumbnails uint8 [M, h, w] and what is seen of the first M of ``pixels``, uint8 [N, 3, H, W].

        ``slots``: int64 [M], which follow the motion.
        """
        size = table.layout.size
        scale = thumbnail_scale(*size)
        table.flow[:1].zero_()  # of nobody: or what fills up batches would add up, step by step
        table.displacement[:1].zero_()
        current, previous = self._ops.luma(pixels[: len(slots)], scale), table.luma[slots]
        motion = estimate(self._ops, previous, current, table.flow[slots], self._search)
        found = tracker.advance(table.distortion[slots], current, motion)
        displacement = table.displacement[slots]
        still = motion.still[:, None, None]
        reference = torch.where(still, previous, current)
        risk = None
        if self._expected is not None:
            few = self._ops.moved_labels(table.labels, slots, displacement, scale, LABEL_STEP)
            cells = cell_features(few, self._classes, found.fine, tracker.cell, motion, scale, reference)
            risk = self._expected(cells, self._program.bins(*size))
        resembles = show_the_same(table.score_luma[slots], current)
        # Looking up is not exact to the bit even where nothing moves; what is still has to stay as it is.
        moved = motion.flow + sample(displacement, motion.flow)
        table.displacement[slots] = torch.where(still[:, None], displacement, moved)
        table.distortion[slots] = found.state
        table.luma[slots] = reference
        table.flow[slots] = torch.where(found.signals.scene_cut[:, None, None, None], 0.0, motion.flow)
        return current, Observation(found.signals, motion.still, resembles, risk)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A batch of one size: ``slots`` int64 [M], to be filled in, and what looks at it.

    ``memory``: what it reads and writes otherwise.
    """

    slots: Tensor
    look: Captured[tuple[Tensor, Observation]]
    memory: _Memory

    def fits(self, pixels: Tensor, table: SlotTable) -> bool:
        """Whether it looks at these, and not at what was there in their place before."""
        mine = self.memory
        return mine.pixels() is pixels and mine.table() is table and mine.rows == table.rows


@dataclass(frozen=True, slots=True)
class _Memory:
    """Pixels and a table that others own, and that nobody keeps for a batch that may not come again.

    ``rows``: of the table, whose tensors are new ones whenever it has grown.
    """

    pixels: ref[Tensor]
    table: ref[SlotTable]
    rows: int

    @classmethod
    def of(cls, pixels: Tensor, table: SlotTable) -> _Memory:
        return cls(ref(pixels), ref(table), table.rows)

    def get(self) -> tuple[Tensor, SlotTable]:
        """Both; raises RuntimeError if they are gone."""
        pixels, table = self.pixels(), self.table()
        if pixels is None or table is None:
            raise RuntimeError("what the batch was prepared for is gone")
        return pixels, table
