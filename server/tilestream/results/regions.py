"""Areas per region: all regions of a session in one pass over the runs of a mask.

A picture's pixels, numbered row by row, are cut wherever an edge of a region is crossed; between two cuts
every pixel is in the same set of regions. Sets are bits of 64, and a mask has some tens of different ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tilestream.label_runs import LabelRuns
from tilestream.results.runs import Int64Array, run_of, sorted_union
from tilestream.results.wishes import Region

LABELS = 256


class RegionMap:
    """Where regions lie in masks of one size. At most 64 regions.

    A pixel belongs to a region if its centre is inside: where the outline crosses itself, if it is enclosed
    an odd number of times.
    """

    def __init__(self, regions: Sequence[Region], width: int, height: int) -> None:
        self.width, self.height = width, height
        crossings = [_crossings(region, width, height) for region in regions]
        cuts = np.concatenate([np.zeros(0, dtype=np.int64), *crossings])
        bits = np.repeat(
            np.uint64(1) << np.arange(len(regions), dtype=np.uint64), [len(c) for c in crossings]
        )
        order = np.argsort(cuts, kind="stable")
        sets = np.bitwise_xor.accumulate(bits[order])
        cuts = cuts[order]
        last = np.append(cuts[1:] != cuts[:-1], True)[: len(cuts)]  # of the crossings at one pixel
        last &= cuts < width * height
        self._cuts = np.concatenate(([0], cuts[last])).astype(np.int32)
        found, which = np.unique(np.concatenate(([np.uint64(0)], sets[last])), return_inverse=True)
        self._set_of_cut = which.astype(np.int32)
        inside = (found[:, None] >> np.arange(len(regions), dtype=np.uint64)) & np.uint64(1)
        self._sets_of_region = [np.flatnonzero(column) for column in inside.T]

    def areas(self, runs: LabelRuns) -> list[Int64Array]:
        """Of each region, int64 [256]: pixels of each label."""
        pieces = sorted_union(runs.starts, self._cuts)
        lengths = np.diff(pieces, append=np.int32(runs.width * runs.height)).astype(np.int64)
        values = runs.values[run_of(runs, pieces)]
        sets = self._set_of_cut[np.searchsorted(self._cuts, pieces, side="right") - 1]
        present, labels = np.unique(values, return_inverse=True)
        cells = (int(self._set_of_cut.max()) + 1, len(present))
        table = np.bincount(sets * len(present) + labels, weights=lengths, minlength=cells[0] * cells[1])
        table = table.reshape(cells).astype(np.int64)  # sums of whole numbers, which float64 adds up exactly
        counted = []
        for members in self._sets_of_region:
            areas = np.zeros(LABELS, dtype=np.int64)
            areas[present] = table[members].sum(axis=0)
            counted.append(areas)
        return counted


def _crossings(region: Region, width: int, height: int) -> Int64Array:
    """int64 [n], in any order: the first pixel behind each crossing of a region's outline, row by row.

    A crossing at the right edge cuts where the next row begins, so that every row has an even number.
    """
    x, y = (np.array(region.points) * (width, height)).T
    x_end, y_end = np.roll(x, -1), np.roll(y, -1)
    centres = np.arange(height)[:, None] + 0.5
    crossed = (y <= centres) != (y_end <= centres)
    row, edge = np.nonzero(crossed)
    slope = (x_end - x)[edge] / (y_end - y)[edge]
    at = x[edge] + (row + 0.5 - y[edge]) * slope
    columns: npt.NDArray[np.float64] = np.clip(np.ceil(at - 0.5), 0, width)
    return row * width + columns.astype(np.int64)
