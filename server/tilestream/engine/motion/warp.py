"""Maps moved along a motion, and brought from one grid to another. OpenCV inside, frame by frame."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.arrays import Maps, Mask
from tilestream.messages import Float32Array


def stacked(maps: list[Tensor]) -> Tensor:
    """Maps of one shape as a batch; a view of the only one, a copy of several."""
    return maps[0][None] if len(maps) == 1 else torch.stack(maps)


def warp(maps: Maps, flow: Tensor, interpolation: int = cv2.INTER_LINEAR) -> Tensor:
    """Maps [N, h, w] or [N, h, w, C] of the frames before, moved to these frames; the dtype is kept.

    ``flow``: float32 [N, h', w', 2] (x, y) in pixels of ``maps``; the result is as large as it. What comes
    from outside has the value of the nearest border pixel. ``interpolation``: one of OpenCV's constants.
    """
    shape = (*flow.shape[:3], *maps[0].shape[2:])
    result = torch.empty(shape, dtype=maps[0].dtype)
    for source, field, target in zip(maps, flow.numpy(), result.numpy(), strict=True):
        displace(source.numpy(), field, interpolation, target)
    return result


def displace(
    source: npt.NDArray[Any],
    flow: Float32Array,
    interpolation: int = cv2.INTER_LINEAR,
    target: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """One map as in :func:`warp`, into ``target`` if it is given."""
    empty: Any = None  # the annotation of map2 does not know that it may be missing
    flags = interpolation | cv2.WARP_RELATIVE_MAP
    return cv2.remap(source, flow, empty, flags, dst=target, borderMode=cv2.BORDER_REPLICATE)


def absolute_difference(one: Tensor, other: Tensor) -> Tensor:
    """Of uint8 maps [N, h, w], pixel by pixel."""
    width = one.shape[2]
    found = cv2.absdiff(one.numpy().reshape(-1, width), other.numpy().reshape(-1, width))
    return torch.from_numpy(found).view(one.shape)


def chained(flow: Tensor, earlier: Maps | None) -> Tensor:
    """``flow`` to the frames before and ``earlier`` from there on, in one: float32 [N, h, w, 2] like both.

    ``earlier`` None: there is nothing before those frames.
    """
    return flow if earlier is None else warp(earlier, flow).add_(flow)


def continued(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps [N, h, w, ...] cut to [N, height, width, ...], or continued with their last row and column."""
    maps = maps[:, :height, :width]
    down, right = height - maps.shape[1], width - maps.shape[2]
    if down > 0:
        maps = torch.cat([maps, maps[:, -1:].expand(-1, down, *maps.shape[2:])], dim=1)
    if right > 0:
        maps = torch.cat([maps, maps[:, :, -1:].expand(-1, -1, right, *maps.shape[3:])], dim=2)
    return maps


def resized(maps: Tensor, height: int, width: int, interpolation: int = cv2.INTER_AREA) -> Tensor:
    """Maps [N, h, w] or [N, h, w, C] brought to [N, height, width, ...]; means where they shrink.

    More than 4 channels shrink by whole factors only: OpenCV refuses others.
    """
    if maps.shape[1:3] == (height, width):
        return maps
    result = torch.empty((len(maps), height, width, *maps.shape[3:]), dtype=maps.dtype)
    for source, target in zip(maps.numpy(), result.numpy(), strict=True):
        cv2.resize(source, (width, height), dst=target, interpolation=interpolation)
    return result


def resampled(maps: Tensor, scale: int, stride: int, height: int, width: int) -> Tensor:
    """Maps [N, h, w, ...] on another grid: [N, height, width, ...].

    ``scale``: image pixels per pixel of theirs, ``stride``: of the grid's. See :meth:`Motion.at_stride`;
    values are not scaled. May share memory with ``maps``.
    """
    if stride % scale == 0:
        factor = stride // scale
        return resized(continued(maps, height * factor, width * factor), height, width)
    if scale % stride == 0:
        factor = scale // stride
        rows, columns = maps.shape[1:3]
        fine = resized(maps, rows * factor, columns * factor, cv2.INTER_LINEAR)
        return continued(fine, height, width)
    raise ValueError(f"stride {stride} and scale {scale}: neither is a multiple of the other")


def comes_from_inside(flow: Float32Array) -> Mask:
    """Bool [h, w]: where ``flow``, float32 [h, w, 2] (x, y), leads to a pixel of the image."""
    height, width = flow.shape[:2]
    sources = grid(height, width) + flow
    return cv2.inRange(sources, (-0.5, -0.5), (width - 0.5, height - 0.5)) > 0


@lru_cache(maxsize=32)
def grid(height: int, width: int) -> Float32Array:
    """Float32 [height, width, 2]: every pixel's own (x, y)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = np.stack([x, y], axis=2)
    grid.flags.writeable = False
    return grid
