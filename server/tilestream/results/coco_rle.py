"""COCO's compressed run lengths, as pycocotools writes and reads them: "counts" of an RLE object."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilestream.results.runs import Int64Array

_BITS = 5  # of a number in each character
_FIRST = 48  # the character of 0


def counts_of(starts: Int64Array, lengths: Int64Array, pixels: int) -> Int64Array:
    """int64 [n]: lengths of the runs outside, inside, outside, ... of a mask.

    ``starts`` and ``lengths``: int64 [m], m at least 1, the runs inside by columns, ascending; they may touch
    each other. ``pixels``: of the whole mask.
    """
    ends = starts + lengths
    apart = np.flatnonzero(starts[1:] != ends[:-1])
    bounds = np.empty(2 * len(apart) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = starts[0], ends[-1]
    bounds[1:-1:2], bounds[2:-1:2] = ends[apart], starts[apart + 1]
    counts = np.diff(bounds, prepend=0)
    return counts if ends[-1] == pixels else np.append(counts, pixels - ends[-1])


def compress(counts: npt.NDArray[np.int64]) -> bytes:
    """From the fourth on differences to the last but one are written; five bits a character, lowest first."""
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    characters = int(np.abs(numbers).max()).bit_length() // _BITS + 1  # of the longest, with its sign
    pieces = numbers[:, None] >> (_BITS * np.arange(characters))
    # A number ends where only its sign is left, which the high bit of its last character says.
    rest, negative = pieces >> _BITS, (pieces & 0x10) != 0
    more = rest != np.where(negative, -1, 0)
    written = np.ones(more.shape, dtype=bool)
    np.logical_and.accumulate(more[:, :-1], axis=1, out=written[:, 1:])
    encoded = ((pieces & 0x1F) | np.where(more, 0x20, 0)) + _FIRST
    return encoded[written].astype(np.uint8).tobytes()
