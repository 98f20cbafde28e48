"""A session's label map at full resolution: overwritten where bins were computed, moved where not."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.engine.motion.estimators import chained, displace
from tilestream.messages import Float32Array, UInt8Array


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
        self._planes = [np.zeros(shape, dtype=np.uint8) for _ in range(planes)]
        self._moved: list[UInt8Array] | None = None  # the planes as they are seen now, if they were moved
        self._scale = 1
        self.displacement: Float32Array | None = None
        """float32 [h, w, 2] (x, y): from now to where the planes were computed, in the flow's pixels."""

    @property
    def planes(self) -> int:
        """1: labels only; 2: confidence too."""
        return len(self._planes)

    def plane(self, index: int) -> UInt8Array:
        """A copy of a map as it is now, uint8 [H, W]. 0: labels, 1: confidence."""
        return self._seen()[index].copy()

    def replace(self, *planes: UInt8Array) -> None:
        """All is new: a uint8 [H, W] for every map."""
        self._moved = self.displacement = None
        for index, values in enumerate(planes):
            self._inner(index)[...] = values

    def place(
        self, index: int, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64], tiles: UInt8Array
    ) -> None:
        """Bins are new: uint8 [n, bin, bin] at rows ``y`` and columns ``x``."""
        if self.displacement is not None:
            self.replace(*self._seen())
        side = self._bin
        blocks = self._planes[index].reshape(self._rows, side, self._columns, side)
        blocks[y, :, x, :] = tiles

    def move(self, flow: Float32Array, scale: int) -> None:
        """Follow the motion.

        ``flow``: float32 [h, w, 2] (x, y), in pixels of a grid ``scale`` times as coarse as this map.
        """
        if not flow.any():
            return
        self._moved, self._scale = None, scale
        self.displacement = chained(flow, self.displacement)

    def _seen(self) -> list[UInt8Array]:
        """The planes as they are seen now, looked up once per frame."""
        if self.displacement is None:
            return [self._inner(index) for index in range(self.planes)]
        if self._moved is None:
            fine = self.displacement * np.float32(self._scale)
            if self._scale > 1:
                size = (fine.shape[1] * self._scale, fine.shape[0] * self._scale)
                fine = cv2.resize(fine, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
            fine = fine[: self._height, : self._width]
            inner = [self._inner(index) for index in range(self.planes)]
            self._moved = [displace(plane, fine, cv2.INTER_NEAREST) for plane in inner]
        return self._moved

    def _inner(self, index: int) -> UInt8Array:
        return self._planes[index][: self._height, : self._width]
