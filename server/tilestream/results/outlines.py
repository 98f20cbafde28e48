"""Polygons around instances along the edges of pixels: filled by centres (even-odd) they give these back.

OpenCV's contours run through the centres of border pixels: half a pixel is lost all around, and what is one
pixel wide has no area. Here corners are where a run begins in one of two rows, for all instances at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.label_runs import LabelRuns
from tilestream.results.runs import Int64Array, sorted_union

# Of the four pixels around a corner of pixels: above left 1, above right 2, below left 4, below right 8.
_RISING, _FALLING = 6, 9  # those of one diagonal: two outlines meet, or one meets itself
_IS_CORNER = np.array([code not in (0, 3, 5, 10, 12, 15) for code in range(16)])
_OUTSIDE = -1  # of the picture, or of the instances that are wanted

Points = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Corners of outlines in the order of instances, then from top to bottom, then from left to right.

    ``instance``, ``x``, ``y``: int64 [n]. Where two outlines, or one twice, pass a corner there are two. The
    first then has the edge to the left. ``lower``: bool [n]; of two, the one with the edge downwards.
    """

    instance: Int64Array
    x: Int64Array
    y: Int64Array
    lower: npt.NDArray[np.bool_]

    def up_to(self, most: int) -> tuple[Corners, int]:
        """Those of the first instances with together at most so many corners, and how many instances."""
        if len(self.x) <= most:
            return self, int(self.instance[-1]) + 1 if len(self.x) else 0
        count = int(self.instance[most])  # the first that does not fit
        end = np.searchsorted(self.instance, count)
        return Corners(self.instance[:end], self.x[:end], self.y[:end], self.lower[:end]), count

    def outlines(self) -> Iterator[tuple[int, Points]]:
        """Instance and int32 [n, 2], x and y of its corners in order; its outer outline before its holes."""
        across = (np.arange(len(self.x)) ^ 1).tolist()  # two in a row are ends of one edge
        down, owner = self._down(), self.instance.tolist()
        free = bytearray(b"\1" * len(across))
        for start in range(len(across)):
            if not free[start]:
                continue
            path: list[int] = []
            corner = start
            while free[corner]:
                partner = across[corner]
                path += (corner, partner)
                free[corner] = free[partner] = 0
                corner = down[partner]
            yield owner[start], np.stack((self.x[path], self.y[path]), axis=1).astype(np.int32)

    def _down(self) -> list[int]:
        """The corner at the other end of each one's vertical edge."""
        along_columns = np.lexsort((self.lower, self.y, self.x, self.instance))
        down = np.empty(len(self.x), dtype=np.int64)
        down[along_columns[0::2]], down[along_columns[1::2]] = along_columns[1::2], along_columns[0::2]
        return down.tolist()


def find_corners(rows: LabelRuns, instance: npt.NDArray[np.int64]) -> Corners:
    """All corners of instances. ``instance``: int64 [runs], that of each run, -1 for those of none.

    ``rows`` as ``runs.cut_at_rows`` makes them.
    """
    starts, owners, width = _framed(rows, instance)
    places = sorted_union(starts, starts + width)
    places = places[(places > width) & (places < width * (rows.height + 2))]
    here, left = _around(starts, owners, places)
    above, above_left = _around(starts, owners, places - width)
    around = np.stack((above_left, above, left, here), axis=1)
    found = []
    for position in range(4):
        mine = around[:, position]
        code = (around == mine[:, None]) @ np.array((1, 2, 4, 8))
        first = (around[:, :position] != mine[:, None]).all(axis=1)  # else it was taken before
        taken = np.flatnonzero(first & (mine != _OUTSIDE) & _IS_CORNER[code])
        found.append(np.stack((mine[taken], places[taken], code[taken]), axis=1))
    owner, place, code = np.concatenate(found).T
    order = np.lexsort((place, owner))
    twice = np.where((code == _RISING) | (code == _FALLING), 2, 1)[order]
    owner, place, code = (each[order].repeat(twice) for each in (owner, place, code))
    second = np.zeros(len(code), dtype=bool)
    second[1:] = (place[1:] == place[:-1]) & (owner[1:] == owner[:-1])
    # Pixels of an instance hang together over corners: each of two goes around a pixel that is not of it.
    return Corners(owner, place % width - 1, place // width - 1, second != (code == _FALLING))


def _framed(rows: LabelRuns, instance: npt.NDArray[np.int64]) -> tuple[Int64Array, Int64Array, int]:
    """Starts and instances of runs in a picture with a rim of one pixel of none, and that picture's width."""
    width = rows.width + 2
    y, x = np.divmod(rows.starts.astype(np.int64), rows.width)
    right_rim = np.arange(1, rows.height + 1) * width + rows.width + 1
    starts = np.concatenate(([0], (y + 1) * width + x + 1, right_rim))
    owners = np.concatenate(([_OUTSIDE], instance, np.full(rows.height, _OUTSIDE)))
    order = np.argsort(starts, kind="stable")
    return starts[order], owners[order], width


def _around(starts: Int64Array, owners: Int64Array, places: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Whose the pixels at places are, and those to the left of them."""
    run = np.searchsorted(starts, places, side="right") - 1
    return owners[run], owners[run - (starts[run] == places)]


def simplified(outline: Points, tolerance: float) -> Points:
    """Fewer corners, int32 [m, 2]: no corner is further than ``tolerance`` pixels from the new outline.

    It keeps at least three corners: what is smaller than the tolerance is simplified less.
    """
    fewer = outline
    while tolerance >= 0.5 and len(fewer := _approximated(outline, tolerance)) < 3:
        tolerance /= 2
    return fewer if len(fewer) >= 3 else outline


def _approximated(outline: Points, tolerance: float) -> Points:
    return np.asarray(cv2.approxPolyDP(outline[:, None], tolerance, True), dtype=np.int32).reshape(-1, 2)
