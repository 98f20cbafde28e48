"""What a frame cost that was computed in full, or not at all: the same for all frames of a size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.frames import ResidentFrame
from tilestream.messages import BinAccount, FrameStats, Outcome

_SIZES = 64  # of frames that are prepared for at a time


@dataclass(frozen=True, slots=True)
class _Price:
    """Of a whole frame: block units, MACs, and units by the stride of the map they make."""

    units: int
    macs: int
    by_stride: dict[int, int]


class Accounts:
    """Writes outcomes. ``program``: of the model whose frames these are."""

    def __init__(self, program: TileProgram) -> None:
        self._program = program
        self._price = lru_cache(maxsize=_SIZES)(self._make_price)

    def outcome(self, frame: ResidentFrame) -> Outcome:
        """The answer to a frame that is done."""
        return Outcome(
            frame.frame.session_id,
            frame.frame.frame_id,
            frame.labels,
            self._stats(frame),
            confidence=frame.confidence,
            bins=self._bins(frame) if frame.spec.bins else None,
        )

    def _make_price(self, size: tuple[int, int]) -> _Price:
        program = self._program
        rows, columns = program.bins(*size)
        by_stride: dict[int, int] = {}
        for unit in program.units:
            stride = program.nodes[unit.name].stride
            by_stride[stride] = by_stride.get(stride, 0) + rows * columns
        macs = sum(stage.macs for stage in program.stages) * rows * columns
        return _Price(len(program.units) * rows * columns, macs, by_stride)

    def _stats(self, frame: ResidentFrame) -> FrameStats:
        price, agreement = self._price(frame.session.size), frame.agreement
        told = frame.distortion if not frame.whole else None
        return FrameStats(
            whole=frame.whole,
            units_computed=price.units if frame.whole else 0,
            units_total=price.units,
            mean_distortion=0.0 if told is None else float(told.mean()),
            budget=frame.grant.budget,
            macs=price.macs if frame.whole else 0,
            stage_seconds=frame.seconds,
            units_by_stride={
                stride: (units if frame.whole else 0, units) for stride, units in price.by_stride.items()
            },
            agreement=None if agreement is None else agreement.share,
            agreement_pixels=0 if agreement is None else agreement.compared,
            agreement_age=0.0 if agreement is None else agreement.age,
        )

    def _bins(self, frame: ResidentFrame) -> BinAccount:
        size = frame.session.size
        shape, units = self._program.bins(*size), len(self._program.units)
        none = np.zeros(shape, dtype=np.float32)
        told = not frame.whole and frame.distortion is not None and frame.age is not None
        age = frame.age if told and frame.age is not None else none
        return BinAccount(
            bin_size=self._program.bin_size,
            width=size[1],
            height=size[0],
            units_per_bin=units,
            units_computed=np.full(shape, units if frame.whole else 0, dtype=np.uint16),
            distortion=frame.distortion if told and frame.distortion is not None else none,
            age=np.minimum(np.rint(age), 65535).astype(np.uint16),
        )
