"""Instances: pixels of one class that hang together, corners included, found among runs, all classes at once.

OpenCV's connected components take a label map per class; here runs are joined, of which a mask has a
hundredth of its pixels, and a device's runs need not become a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilestream.label_runs import LabelRuns
from tilestream.results.runs import Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Which runs hang together. ``component``: int64 [runs], the number of each run's component.

    Of each component: ``values`` uint8 [n]; ``pixels`` int64 [n]; ``boxes`` int64 [n, 4]: x, y, width,
    height; ``centres`` float64 [n, 2]: x, y of the centre of mass in pixels; the first pixel's is 0.5, 0.5.
    """

    component: Int64Array
    values: npt.NDArray[np.uint8]
    pixels: Int64Array
    boxes: Int64Array
    centres: npt.NDArray[np.float64]

    def chosen(self, classes: tuple[int, ...], min_pixels: int) -> Int64Array:
        """int64 [m]: components of these classes (empty: all) of so many pixels, the largest first."""
        wanted = self.pixels >= min_pixels
        if classes:
            wanted &= np.isin(self.values, classes)
        numbers = np.flatnonzero(wanted)
        return numbers[np.argsort(-self.pixels[numbers], kind="stable")]


def find_components(rows: LabelRuns) -> Components:
    """Of runs as ``runs.cut_at_rows`` makes them; numbered in the order of their first pixels."""
    roots = _joined(len(rows.starts), *_neighbours(rows))
    is_first = roots == np.arange(len(roots))
    first, component = np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[roots]
    count, lengths = len(first), rows.lengths.astype(np.int64)
    starts = rows.starts.astype(np.int64)
    left, top = starts % rows.width, starts // rows.width
    right = left + lengths
    pixels = _sums(component, lengths, count)
    x = np.full(count, rows.width)
    np.minimum.at(x, component, left)
    end = np.zeros(count, dtype=np.int64)
    np.maximum.at(end, component, right)
    y, bottom = top[first], np.zeros(count, dtype=np.int64)
    np.maximum.at(bottom, component, top)
    boxes = np.stack((x, y, end - x, bottom - y + 1), axis=1)
    twice_x, twice_y = lengths * (left + right), lengths * (2 * top + 1)
    sums = np.stack((_sums(component, twice_x, count), _sums(component, twice_y, count)), axis=1)
    centres = sums / (2.0 * pixels[:, None])
    return Components(component, rows.values[first], pixels, boxes, centres)


def _sums(component: Int64Array, numbers: Int64Array, count: int) -> Int64Array:
    """Per component; whole numbers, which float64 adds up exactly."""
    return np.bincount(component, weights=numbers, minlength=count).astype(np.int64)


def _neighbours(rows: LabelRuns) -> tuple[Int64Array, Int64Array]:
    """Pairs of runs (int64 [n] each) of one label that touch: below one another, or at a corner."""
    starts, ends = rows.starts.astype(np.int64), rows.starts + rows.lengths.astype(np.int64)
    width, pixels = rows.width, rows.width * rows.height
    row = starts // width * width
    upper = np.flatnonzero(row + width < pixels)
    row_below = row[upper] + width
    first = np.searchsorted(starts, np.maximum(starts[upper] + width - 1, row_below), side="right") - 1
    last = np.searchsorted(starts, np.minimum(ends[upper] + width, row_below + width - 1), side="right") - 1
    counts = last - first + 1
    one = np.repeat(upper, counts)
    other = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    alike = rows.values[one] == rows.values[other]
    return one[alike], other[alike]


def _joined(count: int, one: Int64Array, other: Int64Array) -> Int64Array:
    """int64 [count]: the least number that each is connected with, by pairs of numbers.

    All pairs are looked at in every round: of two trees the one of the greater root is hung under the other,
    then all are made flat. Rounds are about as many as a tree's height has doublings.
    """
    parent = np.arange(count)
    while len(one):
        high, low = np.maximum(parent[one], parent[other]), np.minimum(parent[one], parent[other])
        apart = high != low
        one, other = one[apart], other[apart]
        np.minimum.at(parent, high[apart], low[apart])
        while not np.array_equal(flat := parent[parent], parent):
            parent = flat
    return parent
