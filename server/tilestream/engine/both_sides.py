"""Labels of a frame between two others that have some: from both, per pixel from the one that fits better.

Labels warped over few frames are better than over many, and those of a place that looks as it did there are
better than others. So a pixel takes the side of which

    (r + MARGIN) * frames

is less, r being the luma that the motion from there leaves unexplained, mean over 5 x 5 pixels of the
thumbnail; a side whose image does not have the place at all comes last.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from tilestream.engine.gates.doubt import unexplained
from tilestream.engine.memory.labels import looked_up
from tilestream.messages import Float32Array, UInt8Array

MARGIN = 4.0
"""Luma steps: so much noise leaves of any place."""

_UNSEEN = 1e4  # luma steps: more than any place leaves


@dataclass(frozen=True, slots=True)
class Side:
    """A frame that labels are warped from. ``planes``: its maps, uint8 [H, W], ``luma``: its thumbnail.

    ``displacement``: float32 [h, w, 2] to it, in the thumbnail's pixels; None: nothing has moved.
    ``frames``: how far away it is.
    """

    planes: list[Tensor]
    luma: Tensor
    displacement: Tensor | None
    frames: int

    def seen(self, scale: int) -> list[Tensor]:
        """Its maps as they are seen from the frame between, which has thumbnails of that scale."""
        if self.displacement is None:
            return self.planes
        return looked_up(self.planes, self.displacement, scale)

    def misfit(self, luma: Tensor) -> Float32Array:
        """Float32 [h, w]: how badly it tells of every pixel of the thumbnail ``luma`` in between."""
        left = unexplained(self.luma.numpy(), luma.numpy(), self.displacement, _UNSEEN)
        return (left + np.float32(MARGIN)) * np.float32(self.frames)


@dataclass(frozen=True, slots=True)
class Joined:
    """Maps uint8 [H, W] from both sides. ``after``: uint8 [H, W], 1 where they are of the later one.

    ``disputed``: uint8 [H, W], 1 where the two sides' labels differ.
    """

    planes: list[UInt8Array]
    after: UInt8Array
    disputed: UInt8Array

    @property
    def future_share(self) -> float:
        """Of the pixels, 0..1: those of the later side."""
        return float(np.count_nonzero(self.after)) / self.after.size


def join(before: Side, after: Side, luma: Tensor, scale: int) -> Joined:
    """The maps of a frame with the thumbnail ``luma`` between two others."""
    earlier, later = before.seen(scale), after.seen(scale)
    height, width = earlier[0].shape
    coarse = np.asarray(after.misfit(luma) < before.misfit(luma), dtype=np.uint8)
    rows, columns = (side * scale for side in coarse.shape)
    chosen = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_NEAREST)[:height, :width]
    pairs = [(one.numpy(), other.numpy()) for one, other in zip(earlier, later, strict=True)]
    planes = [np.where(chosen > 0, other, one) for one, other in pairs]
    disputed = np.asarray(pairs[0][0] != pairs[0][1], dtype=np.uint8)
    return Joined(planes, np.asarray(chosen, dtype=np.uint8), disputed)
