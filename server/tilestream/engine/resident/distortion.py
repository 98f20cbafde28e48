"""What motion leaves unexplained since each place was last computed, for a batch on the device.

The same reckoning as ``motion.distortion``, which says what its figures mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tilestream.engine.motion import distortion as host
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.resident.motion import BatchMotion
from tilestream.engine.resident.sampling import continued, pooled, resampled, sample


@dataclass(frozen=True, slots=True)
class BatchDistortion:
    """``state``: float32 [N, 2, h, w], distortion and age of every cell. ``fine``: float32 [N, 5, h, w].

    ``signals``: of the bins, on the device.
    """

    state: Tensor
    fine: Tensor
    signals: BinSignals


class BatchTracker:
    """For frames of one size; see ``motion.distortion.DistortionTracker`` for the arguments."""

    def __init__(
        self, bin_size: int, bins: tuple[int, int], scale: int, shape: tuple[int, int], device: torch.device
    ) -> None:
        layout = host.CellLayout.of(bin_size, bins, scale, shape)
        self._bins, self._scale = bins, scale
        self.cell, self.cells, self._per_bin = layout.cell * scale, layout.cells, layout.per_bin
        self._side, self._parts = layout.cell, layout.parts
        ones = torch.ones((1, 1, *self.cells), device=device)
        self._bin_cover = self._sums(ones, 1).clamp(min=1e-6)
        self._part_cover = self._sums(ones, self._parts).clamp(min=1e-6)

    def advance(self, state: Tensor, current: Tensor, motion: BatchMotion) -> BatchDistortion:
        """One frame on. ``state``: float32 [N, 2, h, w]; ``current``: luma thumbnails uint8 [N, h, w]."""
        still = motion.still[:, None, None]
        raw, occluded = self._means(motion.residual), self._means(motion.occluded.float())
        flow = resampled(motion.flow, self._scale, self.cell, *self.cells) * (self._scale / self.cell)
        added = torch.maximum((raw - host.NOISE_FLOOR).clamp(min=0), host.STRONG_RESIDUAL * occluded)
        added = torch.where(still, 0.0, added)
        moved = torch.where(still[:, None], state, sample(state, flow))
        distortion = moved[:, 0] + added
        age = torch.maximum(moved[:, 1] + 1, host.OCCLUDED_AGE * occluded)
        speed = flow.square().sum(dim=1).sqrt() * self.cell
        fine = torch.stack((distortion, added, age, speed, occluded), dim=1)
        return BatchDistortion(
            torch.stack((distortion, age), dim=1), fine, self._signals(fine, raw, current, still)
        )

    def computed(self, state: Tensor, bins: Tensor) -> Tensor:
        """The state [N, 2, h, w] once ``bins``, bool [N, bins_h, bins_w], are fresh: no distortion, age 0."""
        side, (height, width) = self._per_bin, self.cells
        fresh = bins.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)
        return torch.where(fresh[:, None, :height, :width], 0.0, state)

    def _signals(self, fine: Tensor, raw: Tensor, current: Tensor, still: Tensor) -> BinSignals:
        means = self._sums(fine, 1) / self._bin_cover
        parts = self._sums(fine[:, :1], self._parts) / self._part_cover
        (rows, columns), side = self._bins, self._parts
        peak = parts.view(-1, rows, side, columns, side).amax(dim=(2, 4))
        distortion, added, age, speed, occluded = means.unbind(dim=1)
        cut = _is_cut(raw, fine[:, 4], current) & still[:, 0, 0].logical_not()
        return BinSignals(distortion, added, peak, age, speed, occluded, cut)

    def _means(self, maps: Tensor) -> Tensor:
        """Means over the cells, [N, h, w], of thumbnails' pixels; an odd edge is replicated."""
        height, width = self.cells
        wide = continued(maps[:, None], height * self._side, width * self._side)
        return torch.nn.functional.avg_pool2d(wide, self._side)[:, 0]

    def _sums(self, maps: Tensor, parts: int) -> Tensor:
        """Of maps [N, C, h, w] over bins cut into ``parts`` x ``parts``: [N, C, rows, columns]."""
        rows, columns = self._bins
        return pooled(maps, self._per_bin // parts, rows * parts, columns * parts)


def _is_cut(residual: Tensor, occluded: Tensor, current: Tensor) -> Tensor:
    """Bool [N]: whether two frames have too little in common, by residual and occlusion of the cells."""
    unexplained = (residual > host.UNEXPLAINED) | (occluded > 0.5)
    excess = residual.mean(dim=(1, 2)) - host.NOISE_FLOOR
    contrast = current.float().flatten(1).std(dim=1, correction=0)
    strange = excess > (host.CUT_CONTRAST * contrast).clamp(min=host.NOISE_FLOOR)
    return (unexplained.float().mean(dim=(1, 2)) > host.CUT_SHARE) | strange
