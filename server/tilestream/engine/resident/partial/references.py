"""Where the features of all slots lie: the batched form of ``memory.row_map``, by the same rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.resident.partial.kernels import RowKernels
from tilestream.engine.resident.partial.tile_sets import DeviceTiles


class References:
    """References of ``slots`` sessions of one frame size at one stride.

    ``rows``: int32 [slots + 1, H + 2, W + 2], where each feature lies; the rim refers to the row of zeros,
    and the last slot belongs to nobody. ``remainder``: float32 [slots + 1, H, W, 2], (x, y): position of
    the referred feature's content minus where it should be, in features.
    """

    def __init__(
        self,
        slots: int,
        size: tuple[int, int],
        tile: int,
        zero_row: int,
        device: torch.device,
        kernels: RowKernels,
    ) -> None:
        self.height, self.width = size
        self.tile, self.zero_row = tile, zero_row
        shape = (slots + 1, self.height + 2, self.width + 2)
        self.rows = torch.full(shape, zero_row, dtype=torch.int32, device=device)
        self.remainder = torch.zeros(slots + 1, *size, 2, device=device)
        self._kernels = kernels

    def grown(self, slots: int) -> References:
        """These, with so many slots more."""
        size = (self.height, self.width)
        own = len(self.rows) - 1
        larger = References(own + slots, size, self.tile, self.zero_row, self.rows.device, self._kernels)
        larger.rows[:own] = self.rows[:own]
        larger.remainder[:own] = self.remainder[:own]
        return larger

    def inner(self, slots: Tensor) -> Tensor:
        """The references of some slots, int64 [N], without their rim: int32 [N, H, W]."""
        return self.rows[:, 1:-1, 1:-1].index_select(0, slots)

    def move(self, slots: Tensor, displacement: Tensor) -> None:
        """Follow the motion of N slots, int64 [N].

        ``displacement``: float32 [N, H, W, 2], (x, y) in features: where each was.
        """
        moved = self._kernels.moved(self.rows, self.remainder, slots, displacement)
        self.rows[:, 1:-1, 1:-1].index_copy_(0, slots, moved[0])
        self.remainder.index_copy_(0, slots, moved[1])

    def place(self, tiles: DeviceTiles) -> None:
        """Let tiles refer to their pages; parts beyond the map are left out."""
        self._kernels.place(self.rows, self.remainder, tiles, self.tile)


def on_grid(flow: Tensor, scale: int, stride: int, height: int, width: int) -> Tensor:
    """Motion on the grid of a feature map: the device's form of ``Motion.at_stride``.

    ``flow``: float32 [N, h, w, 2] in thumbnail pixels of ``scale`` image pixels; the result is float32
    [N, height, width, 2] in features. Raises ValueError unless one of ``stride`` and ``scale`` is a multiple
    of the other.
    """
    planes = flow.permute(0, 3, 1, 2)
    if stride % scale == 0:
        factor = stride // scale
        planes = _continued(planes, height * factor, width * factor)
        if factor > 1:
            planes = F.avg_pool2d(planes, factor)
    elif scale % stride == 0:
        planes = F.interpolate(planes, scale_factor=scale // stride, mode="bilinear", align_corners=False)
        planes = _continued(planes, height, width)
    else:
        raise ValueError(f"stride {stride} and scale {scale}: neither is a multiple of the other")
    return (planes * (scale / stride)).permute(0, 2, 3, 1).contiguous()


def _continued(planes: Tensor, height: int, width: int) -> Tensor:
    """Cut to [N, C, height, width], or continued with the last row and column."""
    planes = planes[:, :, :height, :width]
    missing = (0, width - planes.shape[3], 0, height - planes.shape[2])
    return F.pad(planes, missing, mode="replicate") if any(missing) else planes
