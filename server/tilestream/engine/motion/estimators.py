"""Where every pixel was in the previous frame: backward optical flow on luma thumbnails."""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.motion.flow import Motion
from tilestream.engine.motion.luma import show_the_same
from tilestream.engine.motion.warp import comes_from_inside, displace
from tilestream.messages import Float32Array, UInt8Array

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

_PATCH = 8
"""Pixels. OpenCV's DIS answers with NaN or crashes where not one patch fits into its finest level."""


class MotionEstimator(Protocol):
    """Finds the motion between frames and those before them. One per model: it may hold buffers.

    Tensors are on the CPU and not to be written to: ``expected`` may be what a session remembers. What is
    said of a frame must not depend on those that come with it. ``Motion.still`` may be left out, but then a
    standing camera is never known as one, and its frames are not averaged. Raises ValueError where thumbnails
    do not match, see :func:`check_pairs`.
    """

    def estimate(self, previous: Tensor, current: Tensor, expected: Tensor, scale: int) -> Motion:
        """Motion from luma thumbnails uint8 [N, h, w] of ``scale`` image pixels per pixel.

        ``expected``: float32 [N, h, w, 2], flow to begin the search with: that of the frames before, zero
        where nothing is known.
        """


class NoMotion:
    """Nothing moves and nothing is hidden: for fixed cameras, and to see what motion brings."""

    def estimate(self, previous: Tensor, current: Tensor, expected: Tensor, scale: int) -> Motion:
        """Zero flow of the thumbnails' size."""
        check_pairs(previous, current)
        return Motion(torch.zeros((*current.shape, 2)), torch.zeros(current.shape, dtype=torch.bool), scale)


class DisMotion:
    """Dense inverse search (Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016).

    OpenCV's implementation, which holds buffers and is not thread-safe. Thumbnails too small for it (16
    pixels on a side will do by default) get zero flow, and so do two that differ by noise only: see
    ``luma.STILL_DIFFERENCE``.
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

    def estimate(self, previous: Tensor, current: Tensor, expected: Tensor, scale: int) -> Motion:
        """Flow from ``current`` back to ``previous``, and where it explains nothing."""
        check_pairs(previous, current)
        flow, residual = expected.clone(memory_format=torch.contiguous_format), torch.empty_like(current)
        occluded, still = torch.empty(current.shape, dtype=torch.bool), []
        pairs = zip(previous.numpy(), current.numpy(), flow.numpy(), strict=True)
        maps = zip(residual.numpy(), occluded.numpy(), strict=True)
        for (before, now, field), (left, hidden) in zip(pairs, maps, strict=True):
            still.append(show_the_same(before, now))
            if still[-1] or min(now.shape) < self._min_side:
                field[...], hidden[...] = 0, False
                cv2.absdiff(now, before, dst=left)
                continue
            self._search(before, now, field)
            cv2.absdiff(now, displace(before, field), dst=left)
            hidden[...] = self._occluded(left, field)
        return Motion(flow, occluded, scale, residual, torch.from_numpy(np.array(still)))

    def _search(self, before: UInt8Array, now: UInt8Array, flow: Float32Array) -> None:
        """Improve ``flow`` [h, w, 2] in place."""
        if now.shape != self._shape:
            # small images make DIS change its own settings for good
            self._dis = cv2.DISOpticalFlow.create(self._preset)
            self._dis.setFinestScale(self._finest_scale)
            self._dis.setPatchStride(self._patch_stride)
            self._dis.setUseMeanNormalization(self._patch_means)
            self._shape = now.shape
        source = before if self._patch_means else _exposed_as(now, before)
        # Always with a flow to begin with: OpenCV would else take the last one, maybe of another session.
        self._dis.calc(now, source, flow)

    def _occluded(self, residual: UInt8Array, flow: Float32Array) -> npt.NDArray[np.bool_]:
        """Bool [h, w]: comes from outside the image, or looks different from where it comes from.

        Finds hidden pixels better than the forward-backward check does, which costs a second flow and
        mostly finds the wrong flow of flat areas, where it does no harm.
        """
        differs = cv2.blur(residual, (3, 3)) > self._occluded_difference
        return np.asarray(~comes_from_inside(flow) | differs, dtype=np.bool_)


def _exposed_as(current: UInt8Array, previous: UInt8Array) -> UInt8Array:
    """``previous`` with the change of exposure since then: the median difference, of every 16th pixel."""
    step = float(np.median(current[::4, ::4].astype(np.int16) - previous[::4, ::4]))
    if abs(step) < 1.0:
        return previous
    shift: Any = (step, 0.0, 0.0, 0.0)  # a scalar, which the annotation does not know
    return np.asarray(cv2.add(previous, shift), dtype=np.uint8)


def check_pairs(previous: Tensor, current: Tensor) -> None:
    """Raises ValueError unless these are thumbnails [N, h, w] of one size."""
    if previous.shape != current.shape or current.ndim != 3:
        raise ValueError(
            f"thumbnails must be [N, h, w] and of one size, not {tuple(previous.shape)} "
            f"and {tuple(current.shape)}"
        )
