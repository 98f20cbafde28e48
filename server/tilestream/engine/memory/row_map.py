"""Where a session's features lie: for every position of a map, the row of the store that holds its value.

Moving features along the motion moves these references, not the features: a dropped tile costs no memory
traffic, however many layers it has, and nothing is ever resampled. What rounding to whole features leaves
over is carried along, so that it does not add up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilestream.messages import Float32Array

Rows = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]


class RowMap:
    """References of one session at one stride.

    ``rows``: int32 [H + 2, W + 2]; its rim refers to the row of zeros, which stands for what is outside.
    ``remainder``: float32 [H, W, 2], (x, y): position of the referred feature's content minus where it
    should be, in features; None while it is zero everywhere.
    """

    def __init__(self, height: int, width: int, zero_row: int) -> None:
        self.height, self.width, self.zero_row = height, width, zero_row
        self.rows: Rows = np.full((height + 2, width + 2), zero_row, dtype=np.int32)
        self.remainder: Float32Array | None = None

    @property
    def inner(self) -> Rows:
        """The references without their rim, [H, W]; a view."""
        return self.rows[1:-1, 1:-1]

    def copy(self) -> RowMap:
        """Another one that refers to the same."""
        other = RowMap(self.height, self.width, self.zero_row)
        other.rows[...] = self.rows
        other.remainder = None if self.remainder is None else self.remainder.copy()
        return other

    def move(self, displacement: Float32Array) -> None:
        """Follow the motion. ``displacement``: float32 [H, W, 2], (x, y) in features: where each was."""
        if not displacement.any():
            return
        height, width = self.height, self.width
        # in double precision: rounded differently in every column, halves would tear an even motion apart
        x = displacement[..., 0] + np.arange(width, dtype=np.float64)
        y = displacement[..., 1] + np.arange(height, dtype=np.float64)[:, None]
        column, row = _nearest(x, width), _nearest(y, height)
        if self.remainder is not None:
            # What lies at (row, column) is the content of a place up to one feature off: aim beside it.
            there = self.remainder.reshape(-1, 2).take(_flat(row, column, width), axis=0)
            column, row = _nearest(x - there[..., 0], width), _nearest(y - there[..., 1], height)
        flat = _flat(row, column, width)
        moved = np.empty((height, width, 2), dtype=np.float32)
        moved[..., 0], moved[..., 1] = column - x, row - y
        if self.remainder is not None:
            moved += self.remainder.reshape(-1, 2).take(flat, axis=0)
        self.remainder = np.minimum(np.maximum(moved, np.float32(-1)), np.float32(1))
        self.inner[...] = self.inner.ravel().take(flat)

    def place(
        self,
        tile: int,
        tile_y: npt.NDArray[np.int64],
        tile_x: npt.NDArray[np.int64],
        pages: npt.NDArray[np.int64],
    ) -> None:
        """Let tiles (side ``tile``) refer to pages that hold them; parts beyond the map are left out."""
        offsets = np.arange(tile)
        y = tile_y[:, None, None] * tile + offsets[:, None]
        x = tile_x[:, None, None] * tile + offsets
        values = pages[:, None, None] * (tile * tile) + offsets[:, None] * tile + offsets
        if (tile_y.max(initial=0) + 1) * tile <= self.height and (
            tile_x.max(initial=0) + 1
        ) * tile <= self.width:
            flat: npt.NDArray[np.int64] | tuple[npt.NDArray[np.int64], ...] = y * self.width + x
        else:
            inside = (y < self.height) & (x < self.width)
            flat, values = (y * self.width + x)[inside], values[inside]
        inner = self.inner.reshape(-1)  # a copy: the rim is in between
        inner[flat] = values
        self.inner[...] = inner.reshape(self.height, self.width)
        if self.remainder is not None:
            self.remainder.reshape(-1, 2)[flat] = 0.0

    def live_pages(self, tile: int) -> npt.NDArray[np.int64]:
        """Pages that are referred to; some may occur more than once."""
        return (self.inner.ravel() // (tile * tile)).astype(np.int64)


def _nearest(position: Doubles, size: int) -> Doubles:
    # halves always up: to even, even motion would leave every other feature on the other side
    whole = np.floor(position + 0.5)
    return np.minimum(np.maximum(whole, 0.0), size - 1.0)  # np.clip takes longer


def _flat(row: Doubles, column: Doubles, width: int) -> npt.NDArray[np.intp]:
    return (row * width + column).astype(np.intp)
