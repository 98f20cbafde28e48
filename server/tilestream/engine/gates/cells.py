"""What a learned gate looks at: cheap maps on cells of 16 pixels, finer than bins and of any bin size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.arrays import Maps
from tilestream.engine.motion.flow import Motion
from tilestream.engine.motion.warp import continued, resized, warp
from tilestream.messages import Float32Array, UInt8Array

CELL = 16
"""Image pixels on a side of a cell."""

SIGNALS = (
    "distortion",  # accumulated since last computed, luma steps / 16
    "current",  # what this frame added, luma steps / 16
    "age",  # frames since last computed / 8
    "motion",  # its mean length, pixels / 16
    "occluded",  # share of pixels that nothing explains
    "peak",  # largest distortion of the sixteenths of the cell, luma steps / 16
    "spread",  # of the motion within the cell, pixels / 4
    "texture",  # standard deviation of the luma, steps / 32
    "row",  # from the top, 0, to the bottom, 1
    "border",  # share of pixels at a border between classes, where the warped labels have one
)
"""The first channels of :func:`cell_features`; the share of every class follows."""

_LABEL_STEP = 4  # every 4th label in both directions: enough for shares of a cell


def cell_features(
    labels: Maps, classes: int, fine: Tensor, step: int, motion: Motion, luma: Tensor
) -> Tensor:
    """Float32 [N, len(SIGNALS) + classes, h, w] of N frames.

    ``labels``: uint8 [N, H, W], the answers to the frames before; their statistics travel along the
    ``motion``. ``fine``: see :class:`~tilestream.engine.motion.distortion.Distortion`, with ``step`` image
    pixels on a side of its cells. ``luma``: the frames' thumbnails, uint8 [N, h', w'].
    """
    height, width = labels[0].shape
    shape = (-(-height // CELL), -(-width // CELL))
    statistics = torch.stack(
        [torch.from_numpy(_label_statistics(each.numpy(), classes, shape)) for each in labels]
    )
    known = warp(statistics, motion.at_stride(CELL, *shape))
    distortion, current, age, speed, occluded = _cells(fine, CELL // step, shape).unbind(dim=3)
    peak = _blocks(fine[..., :1], CELL // step, shape).amax(dim=(2, 4))[..., 0]
    side = CELL // motion.scale
    flow = _deviation(motion.flow * motion.scale, side, shape)
    texture = _deviation(luma.float()[..., None], side, shape)
    row = torch.from_numpy(np.linspace(0, 1, shape[0], dtype=np.float32))[:, None].expand_as(age)
    channels = [distortion / 16, current / 16, age / 8, speed / 16, occluded, peak / 16]
    channels += [flow / 4, texture / 32, row, *known.unbind(dim=3)]
    return torch.stack(channels, dim=1)


def class_borders(labels: UInt8Array) -> UInt8Array:
    """uint8 [h, w] like ``labels``: 1 where a label differs from that on the left or above."""
    borders = np.zeros(labels.shape, dtype=np.uint8)
    borders[:, 1:] = labels[:, 1:] != labels[:, :-1]
    borders[1:] |= labels[1:] != labels[:-1]
    return borders


def _label_statistics(labels: UInt8Array, classes: int, shape: tuple[int, int]) -> Float32Array:
    """Float32 [h, w, 1 + classes] per cell: the share of pixels at a class border and of every class."""
    rows, columns = shape
    few = labels[_LABEL_STEP // 2 :: _LABEL_STEP, _LABEL_STEP // 2 :: _LABEL_STEP]
    side = CELL // _LABEL_STEP
    few = np.pad(few, ((0, rows * side - few.shape[0]), (0, columns * side - few.shape[1])), mode="edge")
    borders = class_borders(few).reshape(rows, side, columns, side).sum(axis=(1, 3), dtype=np.float32)
    bins = 1 + classes  # the last one is for labels of no class
    place = np.arange(rows).repeat(side)[:, None] * columns + np.arange(columns).repeat(side)
    found = np.bincount((place * bins + np.minimum(few, classes)).ravel(), minlength=rows * columns * bins)
    shares = found.reshape(rows, columns, bins)[..., :-1]
    return np.dstack([borders, shares]).astype(np.float32) / np.float32(side * side)


def _blocks(maps: Tensor, side: int, shape: tuple[int, int]) -> Tensor:
    """[N, h, w, C] -> [N, rows, side, columns, side, C], continued at the edge."""
    rows, columns = shape
    return continued(maps, rows * side, columns * side).reshape(-1, rows, side, columns, side, maps.shape[3])


def _cells(maps: Tensor, side: int, shape: tuple[int, int]) -> Tensor:
    """Means [N, rows, columns, C] of maps [N, h, w, C], continued at the edge."""
    return resized(continued(maps, shape[0] * side, shape[1] * side), *shape)


def _deviation(maps: Tensor, side: int, shape: tuple[int, int]) -> Tensor:
    """Root of the summed variances of the channels within each cell, [N, rows, columns]."""
    mean, square = _cells(maps, side, shape), _cells(maps * maps, side, shape)
    return (square - mean * mean).clamp(min=0).sum(dim=3).sqrt()
