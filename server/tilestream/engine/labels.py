"""A session's label map at full resolution: overwritten where bins were computed, moved where not."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.messages import Float32Array, UInt8Array


class LabelMap:
    """uint8 maps (labels, and confidence if ``planes`` is 2) of one session, in whole bins."""

    def __init__(self, height: int, width: int, bin_size: int, planes: int) -> None:
        self._height, self._width, self._bin = height, width, bin_size
        self._rows, self._columns = -(-height // bin_size), -(-width // bin_size)
        shape = (self._rows * bin_size, self._columns * bin_size)
        self._planes = [np.zeros(shape, dtype=np.uint8) for _ in range(planes)]
        grid_y, grid_x = np.mgrid[:height, :width].astype(np.float32)
        self._grid = np.dstack([grid_x, grid_y])

    @property
    def planes(self) -> int:
        """1: labels only; 2: confidence too."""
        return len(self._planes)

    def plane(self, index: int) -> UInt8Array:
        """A copy of a map, uint8 [H, W]. 0: labels, 1: confidence."""
        return self._planes[index][: self._height, : self._width].copy()

    def replace(self, index: int, values: UInt8Array) -> None:
        """The whole map is new: uint8 [H, W]."""
        self._planes[index][: self._height, : self._width] = values

    def place(
        self, index: int, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64], tiles: UInt8Array
    ) -> None:
        """Bins are new: uint8 [n, bin, bin] at rows ``y`` and columns ``x``."""
        side = self._bin
        blocks = self._planes[index].reshape(self._rows, side, self._columns, side)
        blocks[y, :, x, :] = tiles

    def move(self, flow: Float32Array) -> None:
        """Follow the motion: ``flow``, float32 [h, w, 2] on a coarser grid, (x, y) in pixels of this map."""
        if not flow.any():
            return
        height, width = self._height, self._width
        scale = max(-(-height // flow.shape[0]), -(-width // flow.shape[1]))
        fine = cv2.resize(
            flow, (flow.shape[1] * scale, flow.shape[0] * scale), interpolation=cv2.INTER_LINEAR
        )
        source = self._grid + fine[:height, :width]
        for plane in self._planes:
            inner = plane[:height, :width]
            inner[...] = cv2.remap(  # type: ignore[call-overload]
                np.ascontiguousarray(inner), source, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            )
