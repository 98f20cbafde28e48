"""A label map as runs of equal labels: what a device sends to the host instead of pixels.

Two columns of some ten thousand entries say all that a million pixels do, and masks that go out as
runs are written from them without the map ever being made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class LabelRuns:
    """Labels of a picture of ``width`` x ``height`` pixels, which are numbered row by row from 0.

    ``starts``: int32 [n], ascending, the pixel at which each run begins; the first is 0. ``values``: uint8
    [n], the label of each. A run goes on over the ends of rows, up to the next one's start. Neighbours have
    different labels where the maker took care of it; nobody may count on that.
    """

    width: int
    height: int
    starts: npt.NDArray[np.int32]
    values: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, labels: npt.NDArray[np.uint8]) -> LabelRuns:
        """The fewest runs that say the same as a map, uint8 [H, W] of at least one pixel."""
        flat = np.ascontiguousarray(labels).reshape(-1)
        changes = np.flatnonzero(flat[1:] != flat[:-1])
        starts = np.zeros(len(changes) + 1, dtype=np.int32)
        np.add(changes, 1, out=starts[1:], casting="same_kind")
        return cls(labels.shape[1], labels.shape[0], starts, flat[starts])

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), as a map has it."""
        return self.height, self.width

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """int32 [n]: pixels of each run."""
        return np.diff(self.starts, append=np.int32(self.width * self.height))

    def to_map(self) -> npt.NDArray[np.uint8]:
        """uint8 [H, W]."""
        return np.repeat(self.values, self.lengths).reshape(self.shape)

    def merged(self) -> LabelRuns:
        """The same labels in the fewest runs; itself, where neighbours differ already."""
        begins = np.empty(len(self.values), dtype=bool)
        begins[:1] = True
        np.not_equal(self.values[1:], self.values[:-1], out=begins[1:])
        if begins.all():
            return self
        return LabelRuns(self.width, self.height, self.starts[begins], self.values[begins])


def label_map(labels: npt.NDArray[np.uint8] | LabelRuns) -> npt.NDArray[np.uint8]:
    """uint8 [H, W] of labels in either form."""
    return labels.to_map() if isinstance(labels, LabelRuns) else labels
