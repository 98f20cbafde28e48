"""Resizing on the device: every axis is one matrix product, of all frames of a size at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.device import upload

_TOGETHER = 16  # frames, of which there are copies in twice their size
_SIZES = 64  # of which weights are kept at a time; a client may send as many as it likes


class Resizer:
    """Does as OpenCV does: means over areas along an axis that shrinks, else linear between pixels' centres.

    Two things differ from the CPU path. Where frames shrink to half or less, libjpeg-turbo itself decodes to
    a half, quarter or eighth there, before OpenCV does the rest: 0.2 to 0.6 of 255 levels on average. Where
    one axis shrinks and the other grows, OpenCV takes single pixels along both.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Halves are exact enough for weights that add up to 1, and ten times as fast; CPUs don't like them.
        self._dtype = torch.float32 if device.type == "cpu" else torch.float16
        self._weights = lru_cache(maxsize=_SIZES)(self._make_weights)

    def __call__(self, frames: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Frames uint8 [3, H, W] of one size -> uint8 [3, h, w] each; ``size``: (w, h)."""
        resized: list[Tensor] = []
        for begin in range(0, len(frames), _TOGETHER):
            batch = torch.stack(list(frames[begin : begin + _TOGETHER])).to(self._dtype)
            rows, columns = self._weights(batch.shape[2], size[1]), self._weights(batch.shape[3], size[0])
            values = rows @ (batch @ columns.T)
            resized += values.round_().clamp_(0, 255).to(torch.uint8)
        return resized

    def _make_weights(self, source: int, target: int) -> Tensor:
        made = area_weights(source, target) if target < source else linear_weights(source, target)
        return upload(torch.from_numpy(made).to(self._dtype), self._device)


def area_weights(source: int, target: int) -> npt.NDArray[np.float32]:
    """[target, source]: what share of a new pixel's area each old pixel covers."""
    edges = np.arange(target + 1) * (source / target)
    pixels = np.arange(source)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0.0) * (target / source)).astype(np.float32)


def linear_weights(source: int, target: int) -> npt.NDArray[np.float32]:
    """[target, source]: old pixels by how near their centres are; the outermost stand for all beyond."""
    centres = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    return np.maximum(1.0 - np.abs(centres[:, None] - np.arange(source)), 0.0).astype(np.float32)
