"""From decoded frames to what the network sees: normalised, whole frames padded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.motion.warp import stacked

_WIDTHS = 64  # of lines that are kept at a time; a client may send as many as it likes


class Normalizer:
    """((x / 255) - mean) / std as one multiply-add, on the device. ``mean``, ``std``: of RGB in 0..1."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self.dtype = device, dtype
        deviation = torch.tensor(std, device=device, dtype=torch.float32)
        self._scale = 1.0 / (255.0 * deviation)
        self._shift = -torch.tensor(mean, device=device, dtype=torch.float32) / deviation
        self._line = lru_cache(maxsize=_WIDTHS)(self._make_line)

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 [N, h, w, 3] on the host -> [N, 3, h, w] on the device, channels-last."""
        scale, shift = self._line(pixels.shape[2])
        x = upload(pixels, self.device).view(-1, len(scale)).float()
        return torch.addcmul(shift, x, scale).to(self.dtype).view(pixels.shape).permute(0, 3, 1, 2)

    def _make_line(self, width: int) -> tuple[Tensor, Tensor]:
        """Factors and offsets of a whole line of pixels: four times as fast as broadcasting three of them."""
        return self._scale.repeat(width), self._shift.repeat(width)

    def whole(self, images: list[Tensor], stride: int) -> Tensor:
        """Frames of one size as a batch, padded at the bottom and on the right with the mean colour."""
        height, width = images[0].shape[:2]
        x = self(stacked(images))
        if height % stride or width % stride:
            x = F.pad(x, (0, -width % stride, 0, -height % stride))
        return x.contiguous(memory_format=torch.channels_last)
