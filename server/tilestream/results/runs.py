"""The runs of a mask seen otherwise: cut at the ends of rows, and along columns, without a label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tilestream.label_runs import LabelRuns

Int64Array = npt.NDArray[np.int64]
Whole = TypeVar("Whole", np.int32, np.int64)


def cut_at_rows(runs: LabelRuns) -> LabelRuns:
    """The same labels in the fewest runs of which none goes on in the next row."""
    merged = runs.merged()
    rows = np.arange(0, runs.width * runs.height, runs.width, dtype=np.int32)
    starts = sorted_union(merged.starts, rows)
    return LabelRuns(runs.width, runs.height, starts, merged.values[run_of(merged, starts)])


def run_of(runs: LabelRuns, pixels: npt.NDArray[np.int32] | Int64Array) -> Int64Array:
    """int64 [n]: the number of the run that each pixel is in."""
    return np.searchsorted(runs.starts, pixels, side="right") - 1


def sorted_union(one: npt.NDArray[Whole], other: npt.NDArray[Whole]) -> npt.NDArray[Whole]:
    """Whole numbers [n]: all numbers of two ascending lists, ascending, each once."""
    both = np.concatenate((one, other))
    both.sort(kind="stable")  # which notices that there are two sorted halves
    new = np.empty(len(both), dtype=bool)
    new[:1] = True
    np.not_equal(both[1:], both[:-1], out=new[1:])
    return both[new]


@dataclass(frozen=True, slots=True, eq=False)
class ColumnRuns:
    """Labels column by column; runs end with their column.

    ``starts``: int64 [n], ascending, x * height + y of each run's first pixel; ``lengths``: int64 [n];
    ``pixels``: int64 [n], y * width + x of the first pixels; ``values``: uint8 [n].
    """

    starts: Int64Array
    lengths: Int64Array
    pixels: Int64Array
    values: npt.NDArray[np.uint8]


def column_runs(rows: LabelRuns, most: int) -> ColumnRuns | None:
    """Of runs as :func:`cut_at_rows` makes them. None where there would be more than ``most``.

    A run along a column begins where a pixel differs from the one above. Along a row that is so, or not, for
    all pixels between two starts of runs of this row or the one above.
    """
    width, height = rows.width, rows.height
    pixels = width * height
    above = rows.starts[rows.starts < pixels - width]
    pieces = sorted_union(rows.starts[rows.starts >= width], above + np.int32(width))
    here = rows.values[run_of(rows, pieces)]
    begins = here != rows.values[run_of(rows, pieces - width)]
    lengths = np.diff(pieces, append=np.int32(pixels))[begins].astype(np.int64)
    if width + int(lengths.sum()) > most:
        return None
    first_row = np.arange(width, dtype=np.int64)
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found = np.concatenate((first_row, np.repeat(pieces[begins].astype(np.int64), lengths) + offsets))
    values = np.concatenate((rows.values[run_of(rows, first_row)], np.repeat(here[begins], lengths)))
    starts = found % width * height + found // width
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    return ColumnRuns(starts, np.diff(starts, append=pixels), found[order], values[order])
