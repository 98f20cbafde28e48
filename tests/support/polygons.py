"""Filling polygons the slow way: by centres of pixels, even-odd."""

from collections.abc import Sequence

import numpy as np


def inside(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """bool [H, W]: pixels whose centres an odd number of outlines (x, y, x, y, ... in pixels) is around."""
    y, x = np.mgrid[:height, :width] + 0.5
    filled = np.zeros((height, width), bool)
    for polygon in polygons:
        points = np.array(polygon, float).reshape(-1, 2)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            crossed = (y0 <= y) != (y1 <= y)
            filled ^= crossed & (x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return filled
