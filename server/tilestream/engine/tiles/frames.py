"""The frames of a step, cut into what the kept tiles need of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.tiles.tables import StepTables, TileSet
from tilestream.messages import UInt8Array


class FrameTiles:
    """The frames of a step, cut where tiles need them."""

    def __init__(
        self, images: list[UInt8Array], normalize: Normalizer, tables: StepTables, bin_size: int
    ) -> None:
        self._images, self._normalize, self._tables, self._bin = images, normalize, tables, bin_size

    def gather(self, tiles: TileSet, region: tuple[int, int, int, int]) -> Tensor:
        """[padded, 3, rows, columns] around every tile; zero (the mean colour) outside of the frame."""
        _, rows, _, columns = region
        pixels = np.empty((tiles.padded, rows, columns, 3), dtype=np.uint8)
        for session in range(len(self._images)):
            chosen = np.flatnonzero(tiles.session == session)
            if len(chosen):
                pixels[chosen] = self._cut(session, tiles.y[chosen], tiles.x[chosen], region)
        pixels[tiles.count :] = 0
        x = self._normalize(torch.from_numpy(pixels))
        for index, across, along in self._tables.outside_frame(self._images, tiles, self._bin, region):
            x[index, :, across, along] = 0.0
        return x

    def _cut(
        self, session: int, y: np.ndarray, x: np.ndarray, region: tuple[int, int, int, int]
    ) -> UInt8Array:
        top, rows, left, columns = region
        image = self._images[session]
        height, width = image.shape[:2]
        before = (max(0, -top), max(0, -left))
        last_y, last_x = (int(y.max()) * self._bin, int(x.max()) * self._bin)
        behind = (max(0, last_y + top + rows - height), max(0, last_x + left + columns - width))
        padded = np.zeros((height + before[0] + behind[0], width + before[1] + behind[1], 3), dtype=np.uint8)
        padded[before[0] : before[0] + height, before[1] : before[1] + width] = image
        # Windows of whole lines, so that they are copied line by line and not byte by byte.
        line, pixel = padded.strides[0], padded.strides[1]
        shape = (padded.shape[0] - rows + 1, padded.shape[1] - columns + 1, rows, columns * 3)
        windows = np.lib.stride_tricks.as_strided(padded, shape, (line, pixel, line, 1), writeable=False)
        cut = windows[y * self._bin + top + before[0], x * self._bin + left + before[1]]
        return cut.reshape(len(y), rows, columns, 3)
