"""Answers to a batch on the device: whole frames through the network, labels moved for those that are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.dense.labels import margin
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.scores import MOST_AVERAGED, weight_of
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.resident.answers import Answers
from tilestream.engine.resident.frames import Batch, ResidentFrame
from tilestream.engine.resident.network import BatchedNetwork
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.partial_frames import PartialFrames
from tilestream.engine.resident.sampling import pooled
from tilestream.engine.resident.scores import levelled, smoothed
from tilestream.engine.resident.slots import SlotTable
from tilestream.engine.resident.transfer import upload_all


@dataclass(frozen=True, slots=True)
class _Anew:
    """The slots of ``table`` that begin anew from K whole frames.

    ``luma``: uint8 [K, h, w], thumbnails of the ``frames``. ``slots``: int64 [K], theirs. Float32 [K] each:
    ``weight`` of the scores before; ``resemble``, 1 where the scores go on being the mean of one scene;
    ``known``, 1 where the frame goes on from one before.
    """

    table: SlotTable
    luma: Tensor
    slots: Tensor
    frames: list[ResidentFrame]
    weight: Tensor
    resemble: Tensor
    known: Tensor


class FrameComputer:
    """Computes answers. ``fusion``: see ``ReuseOptions``. ``partial``: where the gate reuses features."""

    def __init__(
        self,
        program: TileProgram,
        dense: DenseExecutor,
        network: BatchedNetwork,
        ops: Operations,
        fusion: float,
        partial: PartialFrames | None = None,
    ) -> None:
        self._program, self._dense, self._network, self._ops = program, dense, network, ops
        self._fusion, self._partial = fusion, partial

    def run(self, batch: Batch) -> Answers:
        """Answers to all frames of a batch; the slots of whole ones begin anew from them."""
        planned = None if self._partial is None else self._partial.plan(batch)
        partial = [] if planned is None else planned.frames
        kept = [frame for frame in batch.frames if frame.whole and frame.slot is not None]
        lost = [frame for frame in batch.frames if frame.whole and frame.slot is None]
        moved = [frame for frame in batch.frames if not frame.whole and not frame.partial]
        frames = partial + kept + lost + moved
        some, whole, told = len(partial), len(kept) + len(lost), len(partial) + len(kept)
        answers = self._room(batch, frames, told)
        rows, slots, figures, bins = upload_all(self._numbers(batch, frames, kept), batch.pixels.device)
        if self._partial is not None and planned is not None:
            self._partial.run(batch, planned, rows[:some], slots[:some], bins, answers)
        if whole:
            anew = None
            if kept and batch.table is not None and batch.luma is not None:
                luma = batch.luma[rows[some:told]]
                anew = _Anew(batch.table, luma, slots[some:told], kept, *figures.unbind())
            self._whole(batch, rows[some : some + whole], anew, answers)
        if moved and batch.table is not None:
            self._move(batch, batch.table, slots[-len(moved) :], answers)
        return answers

    def _room(self, batch: Batch, frames: list[ResidentFrame], told: int) -> Answers:
        """For the answers to ``frames``; the first ``told`` of them tell of the labels moved before."""
        labels = batch.pixels.new_empty((len(frames), *batch.size))
        confident = any(frame.session.confident for frame in frames)
        if batch.table is not None and confident:
            batch.table.keep_confidence()
        shape = (told, *self._program.bins(*batch.size))
        changed = torch.zeros(shape, dtype=torch.int32, device=batch.pixels.device)
        return Answers(frames, labels, torch.empty_like(labels) if confident else None, changed)

    def _numbers(
        self, batch: Batch, frames: list[ResidentFrame], kept: list[ResidentFrame]
    ) -> list[npt.NDArray[Any]]:
        """Of ``frames`` int64 [N] their rows of the batch, and int64 [N'] slots of those that have one.

        Then what the ``kept`` ones' scores go on from, see :class:`_Anew`, and the bins of partial ones.
        """
        place = {id(frame): index for index, frame in enumerate(batch.frames)}
        weight = [self._weight(frame) for frame in kept]
        figures = np.array(
            [weight, [frame.session.averaged > 1 for frame in kept], [frame.goes_on for frame in kept]],
            dtype=np.float32,
        )
        bins = [frame.touched for frame in frames if frame.partial]
        return [
            np.array([place[id(frame)] for frame in frames], dtype=np.int64),
            np.array([frame.slot for frame in frames if frame.slot is not None], dtype=np.int64),
            figures,
            np.array(bins, dtype=np.bool_),
        ]

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
        count = 0 if anew is None else len(anew.slots)
        scores = self._network.scores(batch.pixels, rows, lambda *kept: self._keep(anew, *kept))
        if anew is not None and self._fusion:
            scores[:count] = self._smoothed(batch, anew, scores[:count])
        begin = len(answers.changed) - count  # partial frames come first
        own = slice(begin, begin + len(rows))
        labels = answers.labels[own]
        confidence = None if answers.confidence is None else answers.confidence[own]
        self._label(scores, labels, confidence)
        if anew is None:
            return
        answers.changed[begin:].copy_(self._changed(batch, anew, labels[:count]))
        table, slots = anew.table, anew.slots
        table.labels[slots] = labels[:count]
        if confidence is not None:
            table.keep_confidence()[slots] = confidence[:count]
        table.luma[slots] = anew.luma
        table.flow[slots] = torch.where(anew.known[:, None, None, None] > 0, table.flow[slots], 0.0)
        # filled, not assigned: a number that is assigned is copied from the host, which waits for the device
        table.displacement.index_fill_(0, slots, 0.0)
        table.distortion.index_fill_(0, slots, 0.0)

    def _keep(self, anew: _Anew | None, begin: int, maps: dict[str, Tensor]) -> None:
        """What the network gave beside the scores is there for later frames of the sessions with slots."""
        frames = [] if anew is None else anew.frames[begin:]
        if anew is None or self._partial is None or not frames:
            return
        slots = [frame.slot or 0 for frame in frames[: len(next(iter(maps.values())))]]
        self._partial.start(anew.table, slots, {name: each[: len(slots)] for name, each in maps.items()})

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
