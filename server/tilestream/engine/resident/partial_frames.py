"""Frames of which some tiles are computed, and what whole ones leave for them, where features are reused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.memory.usage import MemoryUsage
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.resident.answers import Answers
from tilestream.engine.resident.distortion import BatchTracker
from tilestream.engine.resident.frames import Batch, ResidentFrame
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.partial.features import ResidentFeatures
from tilestream.engine.resident.partial.plan import Plan
from tilestream.engine.resident.partial.shared import ResidentProgram
from tilestream.engine.resident.partial.tile_sets import DeviceTiles
from tilestream.engine.resident.sampling import pooled
from tilestream.engine.resident.slots import Size, SlotTable

_WARM_UP_FRAMES = 4


@dataclass(frozen=True, slots=True)
class PlannedFrames:
    """Partial frames of a batch that have pages, in the order of the ``plan``; their ``features``."""

    frames: list[ResidentFrame]
    plan: Plan
    features: ResidentFeatures


class PartialFrames:
    """Runs them. ``tracker``: of frames of a size."""

    def __init__(
        self, shared: ResidentProgram, ops: Operations, tracker: Callable[[Size], BatchTracker]
    ) -> None:
        self._shared, self._ops, self._tracker = shared, ops, tracker

    def features(self, size: Size) -> ResidentFeatures:
        """For a new table, which so far has nobody's row."""
        return ResidentFeatures(self._shared, size, 1)

    def usage(self) -> MemoryUsage:
        """What of the features' memory is in use."""
        pages = self._shared.pages
        taken = pages.ledger.capacity - pages.ledger.available
        return MemoryUsage(
            bytes=taken * pages.page_bytes,
            limit_bytes=pages.ledger.capacity * pages.page_bytes,
            pages=taken,
            limit_pages=pages.ledger.capacity,
            evictions=self._shared.evictions,
        )

    def warm(self, table: SlotTable) -> None:
        """Compile what partial frames of the table's size take, for few tiles and for many."""
        _features_of(table).warm(_WARM_UP_FRAMES)

    def begin_step(self) -> None:
        """No frame is in work."""
        self._shared.busy.clear()

    def enter(self, table: SlotTable, slot: int) -> bool:
        """A frame is in work: its session does not give way in this step. False: it has no features."""
        features = _features_of(table)
        features.enter(slot)
        return features.has(slot)

    def plan(self, batch: Batch) -> PlannedFrames | None:
        """Take pages for the partial frames of a batch; None if there are none, next comes :meth:`run`.

        Those for which there is no room are whole frames from now on.
        """
        frames = [frame for frame in batch.frames if frame.partial]
        if batch.table is None or not frames:
            return None
        features = _features_of(batch.table)
        keep = np.stack([frame.keep for frame in frames if frame.keep is not None])
        plan = features.plan([frame.slot or 0 for frame in frames], keep)
        for index in plan.refused:
            frames[index].whole = True
        chosen = [index for index, frame in enumerate(frames) if frame.partial]
        if not chosen:
            return None
        if plan.refused:
            plan = Plan(plan.slots[chosen], plan.keep[chosen], plan.pages[chosen], [])
        return PlannedFrames([frames[index] for index in chosen], plan, features)

    def run(
        self,
        batch: Batch,
        planned: PlannedFrames,
        rows: Tensor,
        slots: Tensor,
        bins: Tensor,
        answers: Answers,
    ) -> None:
        """Compute what is kept; the first of the ``answers`` are of these frames.

        ``rows``, ``slots``: int64 [P], of the batch's pixels and of the table. ``bins``: bool [P, bins_h,
        bins_w], in which anything is computed. Labels are as they are seen now from then on, and so are
        references: both have followed the motion.
        """
        table, features, count = batch.table, planned.features, len(planned.frames)
        assert table is not None
        scale, displacement = thumbnail_scale(*batch.size), table.displacement[slots]
        features.move(planned.plan.slots.tolist(), displacement.permute(0, 2, 3, 1), scale)
        confident = any(frame.session.confident for frame in planned.frames)
        computed = features.run(planned.plan, batch.pixels[rows], confident)
        planes = [(table.labels, answers.labels, computed.labels)]
        if answers.confidence is not None and computed.confidence is not None:
            planes.append((table.keep_confidence(), answers.confidence, computed.confidence))
        for kept, answered, tiles in planes:
            moved = self._ops.moved_labels(kept, slots, displacement, scale)
            answered[:count] = placed(moved, computed.tiles, tiles)
            kept[slots] = answered[:count]
            if kept is table.labels:
                changed = (moved != answered[:count]).to(torch.int32)
                answers.changed[:count] = pooled(changed, self._shared.program.bin_size, *features.bins)
        table.displacement.index_fill_(0, slots, 0.0)
        table.distortion[slots] = self._tracker(batch.size).computed(table.distortion[slots], bins)

    def start(self, table: SlotTable, slots: list[int], maps: dict[str, Tensor]) -> None:
        """The features [K, C, h, w] of whole frames are those of K slots; none of those without room."""
        _features_of(table).start(slots, maps)


def placed(maps: Tensor, tiles: DeviceTiles, values: Tensor) -> Tensor:
    """Maps [P, H, W] with the values [n, bin, bin] in place of their tiles; what lies outside is left out."""
    (frames, height, width), side = maps.shape, values.shape[1]
    rows, columns = -(-height // side), -(-width // side)
    wide = F.pad(maps, (0, columns * side - width, 0, rows * side - height))
    blocks = wide.view(frames, rows, side, columns, side).transpose(2, 3).flatten(0, 2)
    place = ((tiles.frame * rows + tiles.y) * columns + tiles.x)[: tiles.count]
    blocks.index_copy_(0, place.long(), values)
    blocks = blocks.view(frames, rows, columns, side, side).transpose(2, 3)
    return blocks.reshape(frames, rows * side, columns * side)[:, :height, :width]


def _features_of(table: SlotTable) -> ResidentFeatures:
    if table.features is None:
        raise ValueError("the table keeps no features")
    return table.features
