"""A session's label map at full resolution: overwritten where bins were computed, warped where not."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.arrays import Mask
from tilestream.engine.motion.warp import chained, resized, warp
from tilestream.messages import UInt8Array


class LabelMap:
    """uint8 maps (labels, and confidence if ``planes`` is 2) of one session, in whole bins.

    Moving does not touch what was computed last, it adds up where each pixel comes from: labels are looked up
    once, however many frames they moved for. Rounding to whole pixels frame by frame loses up to 0.2 points
    of mIoU in six frames. New bins end that: from then on, what was seen last is what moves.
    """

    def __init__(self, height: int, width: int, bin_size: int, planes: int) -> None:
        self._height, self._width, self._bin = height, width, bin_size
        self._rows, self._columns = -(-height // bin_size), -(-width // bin_size)
        shape = (self._rows * bin_size, self._columns * bin_size)
        self._planes = [torch.zeros(shape, dtype=torch.uint8) for _ in range(planes)]
        self._warped: list[Tensor] | None = None  # the planes as they are seen now, if they were moved
        self._scale = 1
        self.displacement: Tensor | None = None
        """float32 [h, w, 2] (x, y): from now to where the planes were computed, in the flow's pixels."""

    @property
    def planes(self) -> int:
        """1: labels only; 2: confidence too."""
        return len(self._planes)

    def plane(self, index: int) -> Tensor:
        """A map as it is now, uint8 [H, W]; not to be written to. 0: labels, 1: confidence."""
        return self._seen()[index]

    def copy(self, index: int) -> UInt8Array:
        """The same as an array of its own."""
        return np.array(self.plane(index).numpy())

    def replace(self, *planes: Tensor) -> None:
        """All is new: a uint8 [H, W] for every map."""
        self._warped = self.displacement = None
        for index, values in enumerate(planes):
            self._inner(index).copy_(values)

    def as_computed(self) -> list[Tensor]:
        """The maps as they were computed, uint8 [H, W], ``displacement`` away from now; not to be kept."""
        return [self._inner(index) for index in range(self.planes)]

    def place(
        self,
        index: int,
        y: npt.NDArray[np.int64],
        x: npt.NDArray[np.int64],
        tiles: UInt8Array,
        believed: Mask | None = None,
    ) -> None:
        """Bins are new: uint8 [n, bin, bin] at rows ``y`` and columns ``x``.

        ``believed``: bool [H, W], the pixels that are taken over from them; None: all.
        """
        if self.displacement is not None:
            self.replace(*self._seen())
        blocks = self._blocks(self._planes[index].numpy())
        if believed is None:
            blocks[y, :, x, :] = tiles
            return
        whole = np.zeros(self._planes[index].shape, dtype=np.bool_)
        whole[: self._height, : self._width] = believed
        blocks[y, :, x, :] = np.where(self._blocks(whole)[y, :, x, :], tiles, blocks[y, :, x, :])

    def move(self, flow: Tensor, scale: int) -> None:
        """Follow the motion.

        ``flow``: float32 [h, w, 2] (x, y), in pixels of a grid ``scale`` times as coarse as this map.
        """
        if not flow.numpy().any():  # much faster than the tensor's own
            return
        self._warped, self._scale = None, scale
        earlier = None if self.displacement is None else [self.displacement]
        self.displacement = chained(flow[None], earlier)[0]

    def _seen(self) -> list[Tensor]:
        """The planes as they are seen now, looked up once per frame."""
        inner = self.as_computed()
        if self.displacement is None:
            return inner
        if self._warped is None:
            self._warped = looked_up(inner, self.displacement, self._scale)
        return self._warped

    def _blocks(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return plane.reshape(self._rows, self._bin, self._columns, self._bin)

    def _inner(self, index: int) -> Tensor:
        return self._planes[index][: self._height, : self._width]


def looked_up(planes: list[Tensor], displacement: Tensor, scale: int) -> list[Tensor]:
    """Maps uint8 [H, W] of an earlier frame as they are seen now.

    ``displacement``: float32 [h, w, 2] (x, y), to where it was, on a grid ``scale`` times as coarse.
    """
    rows, columns = displacement.shape[:2]
    fine = resized((displacement * scale)[None], rows * scale, columns * scale, cv2.INTER_LINEAR)
    height, width = planes[0].shape
    fine = fine[:, :height, :width]
    return [warp([plane], fine, cv2.INTER_NEAREST)[0] for plane in planes]
