"""What moved where between two frames."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tilestream.engine.motion.warp import resampled


@dataclass(frozen=True, slots=True)
class Motion:
    """Motion of N frames of one size, at the resolution of their thumbnails.

    ``flow``: float32 [N, h, w, 2] (x, y) in thumbnail pixels: what is at (x, y) of a frame was at
    (x, y) + flow in the one before.
    ``occluded``: bool [N, h, w]: nothing in the frame before explains this pixel.
    ``scale``: image pixels per thumbnail pixel.
    ``residual``: uint8 [N, h, w], luma steps that the motion leaves, where the estimator knows them already.
    ``still``: bool [N]; a frame differs from the one before by noise only, so its flow is zero. For the next
    frame's motion its predecessor will do as well, and with it what moves too slowly to be seen adds up
    until it is. None: no frame is still.
    """

    flow: Tensor
    occluded: Tensor
    scale: int
    residual: Tensor | None = None
    still: Tensor | None = None

    def is_still(self) -> list[bool]:
        """``still`` of every frame."""
        return [False] * len(self.flow) if self.still is None else self.still.tolist()

    def of(self, frames: slice | list[int]) -> Motion:
        """That of some of the frames, in a batch of their own; views where ``frames`` is a slice."""
        if len(self.flow) == 1:
            return self
        return Motion(
            self.flow[frames],
            self.occluded[frames],
            self.scale,
            None if self.residual is None else self.residual[frames],
            None if self.still is None else self.still[frames],
        )

    def at_stride(self, stride: int, height: int, width: int) -> Tensor:
        """The displacement on the grid of a feature map: float32 [N, height, width, 2] in feature pixels.

        Cell (i, j) covers ``stride`` x ``stride`` image pixels from (i, j) * ``stride`` on; its value is
        the mean flow over it, or interpolated where the map is finer than the thumbnail. Where the map
        reaches beyond the thumbnail, the last row and column go on. Raises ValueError unless one of
        ``stride`` and ``scale`` is a multiple of the other.
        """
        return resampled(self.flow, self.scale, stride, height, width) * (self.scale / stride)
