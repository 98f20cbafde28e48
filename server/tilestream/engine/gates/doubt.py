"""Doubt: where warped labels may be wrong, and where computed ones are believed instead.

Two things tell of it: luma that the motion since the latest source leaves unexplained, and labels that come
out differently when they are warped from the source before. What a few bins compute leans at their rims on
features that have moved for long, so that it is the better answer only where the warped labels are in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from tilestream.engine.arrays import Mask, covered_sums
from tilestream.engine.memory.labels import LabelMap, looked_up
from tilestream.engine.memory.sources import Sources
from tilestream.engine.motion.warp import comes_from_inside, displace
from tilestream.messages import Float32Array, UInt8Array

OUTSIDE = 60.0
"""Luma steps that count as unexplained where a pixel comes from outside of the source."""

BELIEVED_ABOVE = 6.0
"""Luma steps, mean over 5 x 5 pixels of the thumbnail, from which on computed labels are believed."""

_BLUR = (5, 5)
_NEAR = np.ones((7, 7), dtype=np.uint8)  # image pixels around a disputed one that are believed, too


@dataclass(frozen=True, slots=True)
class Doubt:
    """Of one frame. ``unexplained``: float32 [h, w], luma steps, at the thumbnail's resolution.

    ``disputed``: uint8 [H, W], 1 where the labels warped from the last two sources differ; None where there
    is but one source.
    """

    unexplained: Float32Array
    disputed: UInt8Array | None
    scale: int

    def per_bin(self, bin_size: int, bins: tuple[int, int]) -> Float32Array:
        """Float32 [bins_h, bins_w]: both shares of all that is in doubt in the frame, added."""
        doubt = _shares(self.unexplained, bin_size // self.scale, bins)
        if self.disputed is not None:
            doubt = doubt + _shares(self.disputed, bin_size, bins)
        return doubt

    def believed(self, size: tuple[int, int]) -> Mask:
        """Bool [H, W]: where labels that were computed are taken over."""
        height, width = size
        left = np.asarray(self.unexplained > BELIEVED_ABOVE, dtype=np.uint8)
        rows, columns = (side * self.scale for side in left.shape)
        much = cv2.resize(left, (columns, rows), interpolation=cv2.INTER_NEAREST)[:height, :width] > 0
        if self.disputed is None:
            return np.asarray(much)
        return np.asarray(much | (cv2.dilate(self.disputed, _NEAR) > 0))


def find_doubt(sources: Sources, labels: LabelMap, luma: Tensor, scale: int) -> Doubt:
    """Of a frame with the thumbnail ``luma``, to which its session's ``labels`` have been warped."""
    if sources.luma is None:
        raise ValueError("there is no source to compare with")
    displacement = labels.displacement
    left = unexplained(sources.luma.numpy(), luma.numpy(), displacement)
    disputed = None
    if sources.labels is not None:
        further = sources.since_earlier(displacement)
        earlier = sources.labels
        if further is not None:
            [earlier] = looked_up([earlier], further, scale)
        disputed = np.asarray(labels.plane(0).numpy() != earlier.numpy(), dtype=np.uint8)
    return Doubt(left, disputed, scale)


def unexplained(
    source: UInt8Array, luma: UInt8Array, displacement: Tensor | None, outside: float = OUTSIDE
) -> Float32Array:
    """Float32 [h, w]: luma steps, mean over 5 x 5 pixels, that the motion leaves of a thumbnail ``luma``.

    ``displacement``: float32 [h, w, 2] from it to ``source``; None: nothing has moved. ``outside``: for what
    comes from outside of that.
    """
    if displacement is None:
        return cv2.blur(cv2.absdiff(luma, source), _BLUR).astype(np.float32)
    flow = displacement.numpy()
    left = cv2.blur(cv2.absdiff(luma, np.asarray(displace(source, flow), dtype=np.uint8)), _BLUR)
    return np.where(comes_from_inside(flow), left, np.float32(outside)).astype(np.float32)


def _shares(values: npt.NDArray[np.generic], side: int, bins: tuple[int, int]) -> Float32Array:
    """Of the sum of ``values`` [h, w], what lies in each bin of ``side`` pixels, times their number."""
    rows, columns = bins
    sums = covered_sums(values, side, bins, np.float32)
    return np.asarray(sums * (rows * columns / max(float(sums.sum()), 1e-3)), dtype=np.float32)
