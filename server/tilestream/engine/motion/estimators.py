"""Where every pixel was in the previous frame: backward optical flow on luma thumbnails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.messages import Float32Array, UInt8Array

BoolArray = npt.NDArray[np.bool_]

MAX_THUMBNAIL_SIDE = 320
"""Pixels of the longer side: what flow costs depends on the thumbnail's area only."""

OCCLUDED_DIFFERENCE = 24.0
"""Luma steps, mean over 3 x 3 pixels, from which on a pixel counts as not explained by its source.

Takes in 1.4 % of the pixels of driving clips at 15 Hz, about as many as really are hidden in the frame
before, but only a fifth of those: most look too much like what hid them. The rest is wrong flow or too
much of a change, which is as good a reason to compute anew.
"""

_FINEST_SCALE = 0
"""The pyramid level at which DIS stops: the thumbnail itself.

Stopping at half of it costs a third (1.1 ms instead of 3.4 on one core at 240 x 180) and moves labels
visibly worse: on 15 Hz driving, labels of CamVid moved for 1 / 3 / 6 frames lose 0.6 / 2.9 / 6.5 points of
mIoU, and 0.4 / 1.8 / 4.7 with full resolution. DIS's better presets bring 0.1 points for three times the
time.
"""

STILL_DIFFERENCE = 3.0
"""Luma steps, mean over 8 x 8 pixels, up to which two thumbnails show the same and differ by noise."""

_STILL_SIDE = 8

_PATCH = 8
"""Pixels. OpenCV's DIS answers with NaN or crashes where not one patch fits into its finest level."""


@dataclass(frozen=True, slots=True)
class Motion:
    """What moved where between two frames, at thumbnail resolution.

    ``flow``: float32 [h, w, 2] (x, y) in thumbnail pixels: what is at (x, y) of this frame was at
    (x, y) + flow in the previous frame.
    ``occluded``: bool [h, w]: nothing in the previous frame explains this pixel.
    ``scale``: image pixels per thumbnail pixel.
    ``residual``: uint8 [h, w], luma steps that the motion leaves, where the estimator knows them already.
    ``still``: the frames differ by noise only, so the flow is zero. For the next frame's motion this frame's
    predecessor will do as well, and with it what moves too slowly to be seen adds up until it is.
    """

    flow: Float32Array
    occluded: BoolArray
    scale: int
    residual: UInt8Array | None = None
    still: bool = False

    def at_stride(self, stride: int, height: int, width: int) -> Float32Array:
        """The displacement on the grid of a feature map: float32 [height, width, 2] in feature pixels.

        Cell (i, j) covers ``stride`` x ``stride`` image pixels from (i, j) * ``stride`` on; its value is
        the mean flow over it, or interpolated where the map is finer than the thumbnail. Where the map
        reaches beyond the thumbnail, the last row and column go on. Raises ValueError unless one of
        ``stride`` and ``scale`` is a multiple of the other.
        """
        cells = resampled(self.flow, self.scale, stride, height, width)
        return np.asarray(cells * np.float32(self.scale / stride), dtype=np.float32)


class MotionEstimator(Protocol):
    """Finds the motion between two frames. One per session: it may hold buffers."""

    def estimate(
        self, previous: UInt8Array, current: UInt8Array, scale: int, expected: Float32Array | None = None
    ) -> Motion:
        """Motion from luma thumbnails uint8 [h, w] of ``scale`` image pixels per pixel.

        ``expected``: float32 [h, w, 2], a flow to begin the search with: that of the frame before.
        """


class NoMotion:
    """Nothing moves and nothing is hidden: for fixed cameras, and to see what motion brings."""

    def estimate(
        self, previous: UInt8Array, current: UInt8Array, scale: int, expected: Float32Array | None = None
    ) -> Motion:
        """Zero flow of the thumbnails' size."""
        _check_pair(previous, current)
        return _none(current, scale)


class DisMotion:
    """Dense inverse search (Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016).

    OpenCV's implementation, which holds buffers and is not thread-safe: one object per session.
    Thumbnails too small for it (16 pixels on a side will do by default) get zero flow, and so do two
    that differ by noise only: see :data:`STILL_DIFFERENCE`.
    """

    def __init__(
        self,
        preset: int = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        finest_scale: int = _FINEST_SCALE,
        occluded_difference: float = OCCLUDED_DIFFERENCE,
        patch_stride: int = 6,
        patch_means: bool = False,
    ) -> None:
        """``finest_scale``: the pyramid level to stop at (0: the thumbnail itself), each a factor of 2.

        ``occluded_difference``: in luma steps, see :data:`OCCLUDED_DIFFERENCE`. ``patch_stride``: pixels
        between the patches that are matched; ``patch_means``: whether they are matched whatever their means
        are. DIS's presets have 4 and True. Beginning with the flow of the frame before, the defaults cost
        half of that and move labels better. But flow without means is where the luma fits, whether or not
        that is the motion, and what it leaves tells less of which bins to compute. A change of exposure is
        taken out of the whole frame where means are not: otherwise, jumps of up to 8 steps from frame to
        frame cost 1.0 / 1.5 / 1.8 points.
        """
        self._patch_stride = patch_stride
        self._patch_means = patch_means
        self._preset = preset
        self._finest_scale = finest_scale
        self._min_side = _PATCH << max(1, finest_scale)
        self._occluded_difference = occluded_difference
        self._shape: tuple[int, ...] = ()
        self._dis: Any = None

    def estimate(
        self, previous: UInt8Array, current: UInt8Array, scale: int, expected: Float32Array | None = None
    ) -> Motion:
        """Flow from ``current`` back to ``previous``, and where it explains nothing."""
        _check_pair(previous, current)
        if show_the_same(previous, current):
            return replace(_none(current, scale), still=True)
        if min(current.shape) < self._min_side:
            return _none(current, scale)
        if current.shape != self._shape:
            # small images make DIS change its own settings for good
            self._dis = cv2.DISOpticalFlow.create(self._preset)
            self._dis.setFinestScale(self._finest_scale)
            self._dis.setPatchStride(self._patch_stride)
            self._dis.setUseMeanNormalization(self._patch_means)
            self._shape = current.shape
        source = previous if self._patch_means else _exposed_as(current, previous)
        # never None: OpenCV would begin with what it was given the last time, maybe for another session
        begin = np.zeros((*current.shape, 2), np.float32) if expected is None else expected.copy()
        flow = np.asarray(self._dis.calc(current, source, begin), dtype=np.float32)
        residual = np.asarray(cv2.absdiff(current, displace(previous, flow)), dtype=np.uint8)
        return Motion(flow, self._occluded(residual, flow), scale, residual)

    def _occluded(self, residual: UInt8Array, flow: Float32Array) -> BoolArray:
        """Bool [h, w]: comes from outside the image, or looks different from where it comes from.

        Finds hidden pixels better than the forward-backward check does, which costs a second flow and
        mostly finds the wrong flow of flat areas, where it does no harm.
        """
        height, width = residual.shape
        sources = grid(height, width) + flow
        inside = cv2.inRange(sources, (-0.5, -0.5), (width - 0.5, height - 0.5))
        differs = cv2.blur(residual, (3, 3)) > self._occluded_difference
        return np.asarray((inside == 0) | differs, dtype=np.bool_)


def thumbnail_scale(height: int, width: int) -> int:
    """Image pixels per thumbnail pixel: the power of two that leaves at most 320 on the longer side."""
    scale = 1
    while max(height, width) > MAX_THUMBNAIL_SIDE * scale:
        scale *= 2
    return scale


def thumbnail(image: UInt8Array, scale: int) -> UInt8Array:
    """Luma (Rec. 601) of ``image`` uint8 [H, W, 3] RGB, averaged over ``scale`` x ``scale`` pixels.

    uint8 [ceil(H / scale), ceil(W / scale)]; the edge is replicated where an average lacks pixels, so
    that the top left corners stay aligned.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale > 1:
        height, width = -(-luma.shape[0] // scale), -(-luma.shape[1] // scale)
        luma = continued(luma, height * scale, width * scale)
        luma = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(luma, dtype=np.uint8)


def warp(
    previous: npt.NDArray[Any], motion: Motion, interpolation: int = cv2.INTER_LINEAR
) -> npt.NDArray[Any]:
    """A map [h, w] or [h, w, C] of the previous frame at thumbnail resolution, moved to this frame.

    The dtype is kept (uint8, 16 bit or float). What comes from outside has the value of the nearest
    border pixel. ``interpolation``: one of OpenCV's constants.
    """
    return displace(previous, motion.flow, interpolation)


def displace(
    source: npt.NDArray[Any], flow: Float32Array, interpolation: int = cv2.INTER_LINEAR
) -> npt.NDArray[Any]:
    """As :func:`warp`, on any grid: ``flow`` float32 [h, w, 2] (x, y) in pixels of ``source``."""
    # the annotation of map2 does not know that it may be missing
    empty: Any = None
    flags = interpolation | cv2.WARP_RELATIVE_MAP
    return cv2.remap(source, flow, empty, flags, borderMode=cv2.BORDER_REPLICATE)


def chained(flow: Float32Array, earlier: Float32Array | None) -> Float32Array:
    """``flow`` to the frame before and ``earlier`` from there on, in one: float32 [h, w, 2] like both.

    ``earlier`` None: there is nothing before that frame.
    """
    return flow if earlier is None else flow + displace(earlier, flow)


def continued(array: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """``array`` [h, w, ...] cut to [height, width, ...], or continued there with its last row and column."""
    down, right = max(0, height - array.shape[0]), max(0, width - array.shape[1])
    if down or right:
        array = cv2.copyMakeBorder(array, 0, down, 0, right, cv2.BORDER_REPLICATE)
    return array[:height, :width]


def resampled(array: Float32Array, scale: int, stride: int, height: int, width: int) -> Float32Array:
    """A map [h, w, ...] of ``scale`` image pixels per pixel on a grid of ``stride``: [height, width, ...].

    See :meth:`Motion.at_stride`; values are not scaled. May share memory with ``array``.
    """
    if stride % scale == 0:
        factor = stride // scale
        cells = continued(array, height * factor, width * factor)
        if factor > 1:
            cells = cv2.resize(cells, (width, height), interpolation=cv2.INTER_AREA)
    elif scale % stride == 0:
        factor = scale // stride
        h, w = array.shape[:2]
        fine = cv2.resize(array, (w * factor, h * factor), interpolation=cv2.INTER_LINEAR)
        cells = continued(fine, height, width)
    else:
        raise ValueError(f"stride {stride} and scale {scale}: neither is a multiple of the other")
    return np.asarray(cells, dtype=np.float32)


@lru_cache(maxsize=32)
def grid(height: int, width: int) -> Float32Array:
    """Float32 [height, width, 2]: every pixel's own (x, y)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = np.stack([x, y], axis=2)
    grid.flags.writeable = False
    return grid


def show_the_same(previous: UInt8Array, current: UInt8Array) -> bool:
    """Whether two thumbnails of one size differ by no more than noise anywhere."""
    difference = cv2.absdiff(previous, current)
    if cv2.mean(difference)[0] > STILL_DIFFERENCE:
        return False  # most frames of a drive: then some block is above it, too
    rows, columns = (max(1, side // _STILL_SIDE) for side in current.shape)  # of 8 pixels or a little more
    means = cv2.resize(difference.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return float(means.max()) <= STILL_DIFFERENCE


def _exposed_as(current: UInt8Array, previous: UInt8Array) -> UInt8Array:
    """``previous`` with the change of exposure since then: the median difference, of every 16th pixel."""
    step = float(np.median(current[::4, ::4].astype(np.int16) - previous[::4, ::4]))
    if abs(step) < 1.0:
        return previous
    shift: Any = (step, 0.0, 0.0, 0.0)  # a scalar, which the annotation does not know
    return np.asarray(cv2.add(previous, shift), dtype=np.uint8)


def _none(current: UInt8Array, scale: int) -> Motion:
    height, width = current.shape
    flow = np.zeros((height, width, 2), dtype=np.float32)
    return Motion(flow, np.zeros((height, width), dtype=np.bool_), scale)


def _check_pair(previous: UInt8Array, current: UInt8Array) -> None:
    if previous.shape != current.shape or current.ndim != 2:
        raise ValueError(
            f"thumbnails must be [h, w] and of one size, not {previous.shape} and {current.shape}"
        )
