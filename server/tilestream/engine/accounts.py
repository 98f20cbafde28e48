"""What a frame cost, and what is told of its bins: the same figures whichever engine computed it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tilestream.engine.arrays import Mask
from tilestream.engine.gates.agreement import Agreement
from tilestream.engine.lowering.program import TileProgram
from tilestream.messages import BinAccount, Float32Array, FrameStats


@dataclass(frozen=True, slots=True)
class ComputedUnits:
    """What was computed of a frame.

    ``bins``: uint16 [bins_h, bins_w], block units of each. ``macs``: multiply-accumulates. ``by_stride``:
    block units computed and all of them, by the stride of the map that they make.
    """

    bins: npt.NDArray[np.uint16]
    macs: int
    by_stride: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, program: TileProgram, keep: Mask, masks: list[Mask]) -> ComputedUnits:
        """``keep``: bool [units, bins_h, bins_w]; ``masks``: what that means for every stage."""
        keys = list(map(id, masks))  # most stages share a mask
        counts = {
            key: int(np.count_nonzero(mask)) for key, mask in dict(zip(keys, masks, strict=True)).items()
        }
        macs = sum([stage.macs * counts[key] for stage, key in zip(program.stages, keys, strict=True)])
        return cls(keep.sum(axis=0).astype(np.uint16), macs, _by_stride(program, keep))

    @property
    def units(self) -> int:
        """Block units computed."""
        return sum([computed for computed, _ in self.by_stride.values()])

    @property
    def total(self) -> int:
        """Block units that there are."""
        return sum([total for _, total in self.by_stride.values()])

    @property
    def share(self) -> float:
        """Of the block units, those that were computed, 0..1."""
        return self.units / self.total


def frame_stats(
    computed: ComputedUnits,
    *,
    whole: bool,
    budget: float,
    distortion: Float32Array | None,
    agreement: Agreement | None,
    seconds: dict[str, float],
    since_source: int | None = None,
) -> FrameStats:
    """``distortion``: [bins_h, bins_w], None where nothing is known of it, as of a whole frame."""
    return FrameStats(
        whole=whole,
        units_computed=computed.units,
        units_total=computed.total,
        mean_distortion=0.0 if distortion is None else float(distortion.mean()),
        budget=budget,
        macs=computed.macs,
        stage_seconds=seconds,
        units_by_stride=computed.by_stride,
        agreement=None if agreement is None else agreement.share,
        agreement_pixels=0 if agreement is None else agreement.compared,
        agreement_age=0.0 if agreement is None else agreement.age,
        bins_refreshed=0 if whole else int(np.count_nonzero(computed.bins)),
        since_source=since_source,
    )


def bin_account(
    program: TileProgram,
    size: tuple[int, int],
    computed: ComputedUnits,
    distortion: Float32Array | None,
    age: Float32Array | None,
) -> BinAccount:
    """``size``: height and width. ``distortion``, ``age``: [bins_h, bins_w], None as in `frame_stats`."""
    zeros = np.zeros(computed.bins.shape, dtype=np.float32)
    frames = zeros if age is None else np.where(computed.bins > 0, 0, age)
    return BinAccount(
        bin_size=program.bin_size,
        width=size[1],
        height=size[0],
        units_per_bin=len(program.units),
        units_computed=computed.bins,
        distortion=zeros if distortion is None else distortion.astype(np.float32),
        age=np.minimum(np.rint(frames), 65535).astype(np.uint16),
    )


def refreshed_stats(stats: FrameStats, computed: ComputedUnits, agreement: Agreement | None) -> FrameStats:
    """Of a frame of which nothing was computed before; ``agreement``: what the labels it had before say."""
    return replace(
        stats,
        units_computed=computed.units,
        units_by_stride=computed.by_stride,
        macs=computed.macs,
        bins_refreshed=int(np.count_nonzero(computed.bins)),
        agreement=None if agreement is None else agreement.share,
        agreement_pixels=0 if agreement is None else agreement.compared,
        agreement_age=0.0 if agreement is None else agreement.age,
    )


def refreshed_account(bins: BinAccount, computed: ComputedUnits) -> BinAccount:
    """The same of its bins."""
    age = np.where(computed.bins > 0, 0, bins.age).astype(np.uint16)
    return replace(bins, units_computed=computed.bins, age=age)


def _by_stride(program: TileProgram, keep: Mask) -> dict[int, tuple[int, int]]:
    counts: dict[int, tuple[int, int]] = {}
    kept = keep.sum(axis=(1, 2)).tolist()
    for unit, bins in zip(program.units, kept, strict=True):
        stride = program.nodes[unit.name].stride
        computed, total = counts.get(stride, (0, 0))
        counts[stride] = computed + bins, total + keep[0].size
    return counts
