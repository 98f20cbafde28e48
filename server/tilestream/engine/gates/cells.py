"""What a learned gate looks at: cheap maps on cells of 16 pixels, finer than bins and of any bin size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.engine.motion.distortion import DistortionTracker
from tilestream.engine.motion.estimators import Motion, continued, displace
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
    "border",  # share of pixels at a border between classes, where the moved labels have one
)
"""The first channels of :func:`cell_features`; the share of every class follows."""

_LABEL_STEP = 4  # every 4th label in both directions: enough for shares of a cell


def cell_features(
    labels: UInt8Array, classes: int, tracker: DistortionTracker, motion: Motion, luma: UInt8Array
) -> npt.NDArray[np.float32]:
    """Float32 [len(SIGNALS) + classes, h, w] of the frame that ``tracker`` advanced to last.

    ``labels``: uint8 [H, W], the answer to the frame before; their statistics travel along the ``motion``.
    ``luma``: the frame's thumbnail.
    """
    shape = (-(-labels.shape[0] // CELL), -(-labels.shape[1] // CELL))
    known = displace(_label_statistics(labels, classes, shape), motion.at_stride(CELL, *shape))
    fine, step = tracker.maps()
    distortion, current, age, speed, occluded = np.moveaxis(_cells(fine, CELL // step, shape), 2, 0)
    peak = _blocks(fine[..., :1], CELL // step, shape).max(axis=(1, 3))[..., 0]
    side = CELL // motion.scale
    flow = _deviation(motion.flow * np.float32(motion.scale), side, shape)
    texture = _deviation(luma.astype(np.float32)[..., None], side, shape)
    row = np.broadcast_to(np.linspace(0, 1, shape[0], dtype=np.float32)[:, None], shape)
    channels = [distortion / 16, current / 16, age / 8, speed / 16, occluded, peak / 16]
    channels += [flow / 4, texture / 32, row, *np.moveaxis(known, 2, 0)]
    return np.stack(channels).astype(np.float32)


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
    few = continued(few, rows * side, columns * side)
    borders = class_borders(few).reshape(rows, side, columns, side).sum(axis=(1, 3), dtype=np.float32)
    bins = 1 + classes  # the last one is for labels of no class
    place = np.arange(rows).repeat(side)[:, None] * columns + np.arange(columns).repeat(side)
    found = np.bincount((place * bins + np.minimum(few, classes)).ravel(), minlength=rows * columns * bins)
    shares = found.reshape(rows, columns, bins)[..., :-1]
    return np.dstack([borders, shares]).astype(np.float32) / np.float32(side * side)


def _blocks(maps: Float32Array, side: int, shape: tuple[int, int]) -> Float32Array:
    """[h, w, C] -> [rows, side, columns, side, C], continued at the edge."""
    rows, columns = shape
    whole = continued(maps, rows * side, columns * side)
    return whole.reshape(rows, side, columns, side, -1)


def _cells(maps: Float32Array, side: int, shape: tuple[int, int]) -> Float32Array:
    whole = continued(maps, shape[0] * side, shape[1] * side)
    means = cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32).reshape(*shape, -1)


def _deviation(maps: Float32Array, side: int, shape: tuple[int, int]) -> Float32Array:
    """Root of the summed variances of the channels within each cell, [rows, columns]."""
    mean, square = _cells(maps, side, shape), _cells(maps * maps, side, shape)
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0).sum(axis=2)), dtype=np.float32)
