"""Answers to a batch on the device: whole frames through the network, labels moved for the other frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.dense.labels import margin
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.scores import MOST_AVERAGED, weight_of
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.resident.frames import Batch, ResidentFrame
from tilestream.engine.resident.network import BatchedNetwork
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.sampling import pooled
from tilestream.engine.resident.scores import levelled, smoothed
from tilestream.engine.resident.slots import SlotTable
from tilestream.engine.resident.transfer import upload_all


@dataclass(frozen=True, slots=True)
class Answers:
    """Of a batch's N frames, in the order of ``frames``, on the device.

    ``labels``: uint8 [N, H, W]; ``confidence`` likewise, where any session asks for it. ``changed``: int32
    [K, bins_h, bins_w], of the first K frames, which are whole and kept: how many pixels of each bin have
    another label than the one that was moved there.
    """

    frames: list[ResidentFrame]
    labels: Tensor
    confidence: Tensor | None
    changed: Tensor


@dataclass(frozen=True, slots=True)
class _Anew:
    """The slots of ``table`` that begin anew from K whole frames.

    ``luma``: uint8 [K, h, w], thumbnails of the frames. ``slots``: int64 [K]. Float32 [K] each: ``weight`` of
    the scores before; ``resemble``, 1 where the scores go on being the mean of one scene; ``known``, 1 where
    the frame goes on from one before.
    """

    table: SlotTable
    luma: Tensor
    slots: Tensor
    weight: Tensor
    resemble: Tensor
    known: Tensor


class FrameComputer:
    """Computes answers. ``fusion``: see ``ReuseOptions``."""

    def __init__(
        self,
        program: TileProgram,
        dense: DenseExecutor,
        network: BatchedNetwork,
        ops: Operations,
        fusion: float,
    ) -> None:
        self._program, self._dense, self._network, self._ops = program, dense, network, ops
        self._fusion = fusion

    def run(self, batch: Batch) -> Answers:
        """Answers to all frames of a batch; the slots of whole ones begin anew from them."""
        kept = [frame for frame in batch.frames if frame.whole and frame.slot is not None]
        lost = [frame for frame in batch.frames if frame.whole and frame.slot is None]
        moved = [frame for frame in batch.frames if not frame.whole]
        place = {id(frame): index for index, frame in enumerate(batch.frames)}
        weight = [self._weight(frame) for frame in kept]
        figures = np.array(
            [weight, [frame.session.averaged > 1 for frame in kept], [frame.goes_on for frame in kept]],
            dtype=np.float32,
        )
        rows, slots, moved_slots, figures_there = upload_all(
            [
                np.array([place[id(frame)] for frame in kept + lost], dtype=np.int64),
                np.array([frame.slot for frame in kept], dtype=np.int64),
                np.array([frame.slot for frame in moved], dtype=np.int64),
                figures,
            ],
            batch.pixels.device,
        )
        frames = kept + lost + moved
        labels = batch.pixels.new_empty((len(frames), *batch.size))
        confident = any(frame.session.confident for frame in frames)
        answers = Answers(
            frames,
            labels,
            torch.empty_like(labels) if confident else None,
            self._changes(batch, len(kept)),
        )
        if batch.table is not None and confident:
            batch.table.keep_confidence()
        if kept or lost:
            anew = None
            if kept and batch.table is not None and batch.luma is not None:
                anew = _Anew(batch.table, batch.luma[rows[: len(kept)]], slots, *figures_there.unbind())
            self._whole(batch, rows, anew, answers)
        if moved and batch.table is not None:
            self._move(batch, batch.table, moved_slots, answers)
        return answers

    def _changes(self, batch: Batch, count: int) -> Tensor:
        shape = (count, *self._program.bins(*batch.size))
        return torch.zeros(shape, dtype=torch.int32, device=batch.pixels.device)

    def _weight(self, frame: ResidentFrame) -> float:
        """What the scores of the whole frame before count for in this one; and its scene is counted."""
        session = frame.session
        if not self._fusion:
            return 0.0
        fuses = frame.goes_on and frame.forced is None and session.scored
        if not fuses or not frame.resembles:
            session.averaged = 0
        weight = weight_of(session.averaged, self._fusion) if fuses else 0.0
        session.averaged = min(session.averaged + 1, MOST_AVERAGED)
        session.scored = True
        return weight

    def _whole(self, batch: Batch, rows: Tensor, anew: _Anew | None, answers: Answers) -> None:
        scores = self._network.scores(batch.pixels, rows)
        count = 0 if anew is None else len(anew.slots)
        if anew is not None and self._fusion:
            scores[:count] = self._smoothed(batch, anew, scores[:count])
        labels = answers.labels[: len(rows)]
        confidence = None if answers.confidence is None else answers.confidence[: len(rows)]
        self._label(scores, labels, confidence)
        if anew is None:
            return
        answers.changed.copy_(self._changed(batch, anew, labels[:count]))
        table, slots = anew.table, anew.slots
        table.labels[slots] = labels[:count]
        if confidence is not None:
            table.keep_confidence()[slots] = confidence[:count]
        table.luma[slots] = anew.luma
        table.flow[slots] = torch.where(anew.known[:, None, None, None] > 0, table.flow[slots], 0.0)
        # filled, not assigned: a number that is assigned is copied from the host, which waits for the device
        table.displacement.index_fill_(0, slots, 0.0)
        table.distortion.index_fill_(0, slots, 0.0)

    def _smoothed(self, batch: Batch, anew: _Anew, scores: Tensor) -> Tensor:
        """Scores with what the sessions thought of the same places before; remembered."""
        table, slots, size = anew.table, anew.slots, batch.size
        scales = thumbnail_scale(*size), self._dense.score_stride
        before, displacement = table.score_luma[slots], table.displacement[slots]
        scores = smoothed(
            scores, table.scores[slots], anew.weight, anew.luma, before, displacement, size, scales
        )
        table.scores[slots] = levelled(scores).to(scores.dtype)
        # of the first one of a scene, so that what creeps adds up until it shows
        table.score_luma[slots] = torch.where(anew.resemble[:, None, None] > 0, before, anew.luma)
        return scores

    def _label(self, scores: Tensor, labels: Tensor, confidence: Tensor | None) -> None:
        height, width = labels.shape[1:]
        factor = self._dense.score_stride
        if factor > 1:
            self._ops.best_labels(scores, factor, labels)
        else:
            labels.copy_(scores.max(dim=1).indices[:, :height, :width])
        if confidence is not None:
            if factor > 1:
                scores = F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
            confidence.copy_(margin(scores)[:, :height, :width])

    def _changed(self, batch: Batch, anew: _Anew, labels: Tensor) -> Tensor:
        table, scale = anew.table, thumbnail_scale(*batch.size)
        before = self._ops.moved_labels(table.labels, anew.slots, table.displacement[anew.slots], scale)
        rows, columns = self._program.bins(*batch.size)
        return pooled((before != labels).to(torch.int32), self._program.bin_size, rows, columns)

    def _move(self, batch: Batch, table: SlotTable, slots: Tensor, answers: Answers) -> None:
        displacement, scale = table.displacement[slots], thumbnail_scale(*batch.size)
        planes = [(table.labels, answers.labels)]
        if answers.confidence is not None:
            planes.append((table.keep_confidence(), answers.confidence))
        for source, target in planes:
            target[-len(slots) :] = self._ops.moved_labels(source, slots, displacement, scale)
