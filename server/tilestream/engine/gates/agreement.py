"""Reuse agreement: did the labels that were warped so far hold where they are now computed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilestream.engine.arrays import Mask, bin_sums
from tilestream.messages import Float32Array, UInt8Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a frame's computed labels say of the warped ones that they replace. Arrays are [bins_h, bins_w].

    ``pixels``: int64, how many were compared, 0 where nothing was. ``changed``: int64, how many of these have
    another label now. ``age``: frames since the compared pixels were computed before, their mean. ``frame``:
    pixels of the frame.
    """

    pixels: npt.NDArray[np.int64]
    changed: npt.NDArray[np.int64]
    age: float
    frame: int

    @property
    def compared(self) -> int:
        """Pixels compared in all bins; there always are some."""
        return int(self.pixels.sum())

    @property
    def share(self) -> float:
        """Of the compared pixels, those that kept their label, 0..1."""
        return 1.0 - int(self.changed.sum()) / self.compared


def compare(
    warped: UInt8Array, computed: UInt8Array, where: Mask, age: Float32Array, bin_size: int
) -> Agreement | None:
    """Labels as they were warped here and as they are computed now, uint8 [H, W], in the bins ``where``.

    ``age``: float32 [bins_h, bins_w], frames since the bins were computed. Pixels outside of the frame do not
    count. None: nothing is compared.
    """
    if not where.any():
        return None
    height, width = warped.shape
    rows, columns = where.shape
    differs = np.zeros((rows * bin_size, columns * bin_size), dtype=np.uint8)
    np.not_equal(warped, computed, out=differs[:height, :width].view(np.bool_))
    changed = bin_sums(differs, where.shape, np.int32).astype(np.int64)
    return told(changed, where, age, bin_size, (height, width))


def told(
    changed: npt.NDArray[np.int64], where: Mask, age: Float32Array, bin_size: int, size: tuple[int, int]
) -> Agreement:
    """What it says that so many pixels of the bins ``where`` changed; [bins_h, bins_w] each.

    ``size``: height and width of the frame. There has to be a bin that is compared.
    """
    rows, columns = where.shape
    high = np.minimum(bin_size, size[0] - bin_size * np.arange(rows))
    wide = np.minimum(bin_size, size[1] - bin_size * np.arange(columns))
    pixels = np.where(where, np.outer(high, wide), 0).astype(np.int64)
    mean_age = float((age * pixels).sum() / pixels.sum())
    return Agreement(pixels, np.where(where, changed, 0), mean_age, size[0] * size[1])
