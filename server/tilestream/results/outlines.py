"""Polygons around pixels, along their edges: filled by centres (even-odd), they give the pixels back.

OpenCV's contours run through the centres of border pixels: half a pixel is lost all around, and what is
one pixel wide has no area.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.results.runs import Int64Array

# Of the four pixels around a corner of pixels: above left 1, above right 2, below left 4, below right 8.
_RISING, _FALLING = 6, 9  # those of one diagonal: two outlines meet, or one meets itself
_IS_CORNER = np.array([code not in (0, 3, 5, 10, 12, 15) for code in range(16)])

Points = npt.NDArray[np.int32]


class Corners:
    """The corners of the outlines of a mask, bool [H, W]; one where outlines meet counts twice."""

    def __init__(self, mask: npt.NDArray[np.bool_]) -> None:
        padded = np.pad(mask.astype(np.uint8), 1)
        codes = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
        y, x = np.nonzero(_IS_CORNER[codes])
        code = codes[y, x]
        times = np.where((code == _RISING) | (code == _FALLING), 2, 1)
        self._x, self._y, code = np.repeat(x, times), np.repeat(y, times), np.repeat(code, times)
        second = np.zeros(len(code), dtype=bool)
        second[1:] = (np.diff(self._x) == 0) & (np.diff(self._y) == 0)
        # Where two meet, the first has the edge to the left, and that one of the vertical edges with which it
        # goes around a pixel that is not of the mask: pixels of the mask hang together over corners.
        self._below = second != (code == _FALLING)

    def __len__(self) -> int:
        return len(self._x)

    def outlines(self) -> list[Points]:
        """int32 [n, 2] each: x, y of the corners in order; that of the topmost pixel comes first."""
        across, down = self._partners()
        free = np.ones(len(self), dtype=bool)
        outlines = []
        for start in range(len(self)):
            if not free[start]:
                continue
            path, corner = [], start
            while True:
                partner = across[corner]
                path += [corner, partner]
                corner = down[partner]
                if corner == start:
                    break
            free[path] = False
            outlines.append(np.stack((self._x[path], self._y[path]), axis=1).astype(np.int32))
        return outlines

    def _partners(self) -> tuple[list[int], list[int]]:
        """The corner at the other end of each one's horizontal edge, and of its vertical edge."""
        along_columns = np.lexsort((self._below, self._y, self._x))
        down = np.empty(len(self), dtype=np.int64)
        down[along_columns[0::2]], down[along_columns[1::2]] = along_columns[1::2], along_columns[0::2]
        return (np.arange(len(self)) ^ 1).tolist(), down.tolist()


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


def ids_in(ids: Int64Array, box: Int64Array, number: int) -> npt.NDArray[np.bool_]:
    """Of a map of component numbers, int64 [H, W], what is one of them in its box: bool [h, w]."""
    x, y, width, height = box
    return ids[y : y + height, x : x + width] == number
