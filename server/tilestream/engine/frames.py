"""From decoded frames to what the network sees: normalised, padded, whole or in tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.tables import StepTables, TileSet
from tilestream.messages import UInt8Array


class Normalizer:
    """((x / 255) - mean) / std as one multiply-add, on the device. ``mean``, ``std``: of RGB in 0..1."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self.dtype = device, dtype
        deviation = torch.tensor(std, device=device, dtype=torch.float32)
        self._scale = 1.0 / (255.0 * deviation)
        self._shift = -torch.tensor(mean, device=device, dtype=torch.float32) / deviation
        self._lines: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, pixels: UInt8Array) -> Tensor:
        """uint8 [N, h, w, 3] -> [N, 3, h, w], channels-last."""
        scale, shift = self._line(pixels.shape[2])
        x = upload(pixels, self.device).view(-1, len(scale)).float()
        return torch.addcmul(shift, x, scale).to(self.dtype).view(pixels.shape).permute(0, 3, 1, 2)

    def _line(self, width: int) -> tuple[Tensor, Tensor]:
        """Factors and offsets of a whole line of pixels: four times as fast as broadcasting three of them."""
        if width not in self._lines:
            self._lines[width] = (self._scale.repeat(width), self._shift.repeat(width))
        return self._lines[width]

    def whole(self, images: list[UInt8Array], stride: int) -> Tensor:
        """Frames of one size as a batch, padded at the bottom and on the right with the mean colour."""
        height, width = images[0].shape[:2]
        x = self(np.stack(images) if len(images) > 1 else np.ascontiguousarray(images[0])[None])
        if height % stride or width % stride:
            x = F.pad(x, (0, -width % stride, 0, -height % stride))
        return x.contiguous(memory_format=torch.channels_last)


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
        x = self._normalize(pixels)
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
