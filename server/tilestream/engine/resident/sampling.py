"""Maps [N, C, h, w] looked up at moved positions, and brought from one grid to another, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(maps: Tensor, flow: Tensor) -> Tensor:
    """Maps [N, C, h, w] at every pixel plus its ``flow``, bilinear; the border goes on beyond the map.

    ``flow``: float32 [N, 2, h, w] (x, y) in pixels of ``maps``.
    """
    height, width = maps.shape[2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    where = torch.stack(
        (
            (flow[:, 0] + x) * (2.0 / width) + (1.0 / width - 1.0),
            (flow[:, 1] + y) * (2.0 / height) + (1.0 / height - 1.0),
        ),
        dim=3,
    )
    return F.grid_sample(
        maps, where.to(maps.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )


def lands_inside(flow: Tensor, margin: float, last: tuple[float, float]) -> Tensor:
    """Bool [N, h, w]: where a pixel plus its ``flow`` [N, 2, h, w] lies in [-margin, last], (y, x) alike."""
    height, width = flow.shape[2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    return (x >= -margin) & (x <= last[1]) & (y >= -margin) & (y <= last[0])


def continued(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps [N, C, h, w] cut to [N, C, height, width], or continued with their last row and column."""
    maps = maps[:, :, :height, :width]
    down, right = height - maps.shape[2], width - maps.shape[3]
    return F.pad(maps, (0, right, 0, down), mode="replicate") if down or right else maps


def resampled(maps: Tensor, scale: int, stride: int, height: int, width: int) -> Tensor:
    """Float maps [N, C, h, w] on another grid: [N, C, height, width].

    ``scale``: image pixels per pixel of theirs, ``stride``: of the grid's. Means where the grid is coarser,
    interpolated where it is finer; one has to be a multiple of the other.
    """
    if stride % scale == 0:
        factor = stride // scale
        maps = continued(maps, height * factor, width * factor)
        return F.avg_pool2d(maps, factor) if factor > 1 else maps
    factor = scale // stride
    fine = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    return continued(fine, height, width)


def blurred(maps: Tensor) -> Tensor:
    """Means over 3 x 3 pixels of float maps [N, h, w], mirrored at the border."""
    height, width = maps.shape[1:]
    wide = F.pad(maps[:, None], (1, 1, 0, 0), mode="reflect" if width > 1 else "replicate")
    wide = F.pad(wide, (0, 0, 1, 1), mode="reflect" if height > 1 else "replicate")
    return F.avg_pool2d(wide, 3, 1)[:, 0]


def pooled(maps: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """Sums over ``side`` x ``side`` pixels of maps [N, ..., h, w]: [N, ..., rows, columns].

    Beyond the maps there is nothing to add.
    """
    down, right = rows * side - maps.shape[-2], columns * side - maps.shape[-1]
    maps = F.pad(maps, (0, right, 0, down)) if down or right else maps
    return maps.reshape(*maps.shape[:-2], rows, side, columns, side).sum(dim=(-3, -1))
