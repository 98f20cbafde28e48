"""The engine's arrays: tensors whose first dimension is the frames of a batch, all of one size.

On the CPU ``.numpy()`` of a tensor is a free view of the same memory, which is where OpenCV works.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Maps = Tensor | list[Tensor]
"""A batch: [N, ...], or N tensors [...] of one shape where they do not lie together."""

Mask = npt.NDArray[np.bool_]
"""On the host: which bins [bins_h, bins_w] are meant, or which units of them [units, bins_h, bins_w]."""


def bin_sums(padded: npt.NDArray[Any], bins: tuple[int, int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Sums [bins_h, bins_w] over the bins of a map that these cover exactly; ``dtype``: to add up in."""
    rows, columns = bins
    # first down the columns, which is what numpy adds up quickly
    lines = padded.reshape(rows, padded.shape[0] // rows, -1).sum(axis=1, dtype=dtype)
    return np.asarray(lines.reshape(rows, columns, -1).sum(axis=2))


def covered_sums(
    values: npt.NDArray[Any], side: int, bins: tuple[int, int], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """The same of a map [h, w] that bins of ``side`` values need not cover exactly."""
    rows, columns = bins
    padded = np.zeros((rows * side, columns * side), dtype=values.dtype)
    height, width = values.shape
    padded[:height, :width] = values[: rows * side, : columns * side]
    return bin_sums(padded, bins, dtype)
