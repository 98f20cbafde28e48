"""Exact motion between two rendered views."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilestream_street.raster import View
from tilestream_street.surface import Floats

_DEPTH_SLACK = 0.02
"""Relative difference of 1 / depth within which two views see the same point."""


def motion_between(
    current: View, previous: View, moved: dict[int, Floats]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(motion float32 [H, W, 2], visible bool [H, W]) from `current` back to `previous`.

    `moved` maps the keys of quads that do not stand still to their frames (float64 [4, 3]) in the
    previous view; a moving quad without one was not there before.
    """
    height, width = current.ids.shape
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    turn, shift = (m.astype(np.float32) for m in current.camera.to_previous(previous.camera))
    near = current.inverse_depth
    px, py, pw = (turn[i, 0] * x + (turn[i, 1] * y + turn[i, 2]) + shift[i] * near for i in range(3))
    pw = np.maximum(pw, 1e-6)
    px, py, near_before = px / pw, py / pw, near / pw

    # moving quads: from pixel to texture to pixel of the view before
    keys = current.keys
    rows = [r for r in current.seen if int(keys[r]) in moved]
    gone = np.zeros(len(keys), dtype=bool)
    if rows:
        maps = np.zeros((len(keys), 3, 3), dtype=np.float32)
        depths = np.zeros((len(keys), 3), dtype=np.float32)
        moving = np.zeros(len(keys), dtype=bool)
        projection = previous.camera.projection
        for row in rows:
            frame = moved[int(keys[row])]
            before = projection @ frame
            if frame[3, 2] == 0.0:
                gone[row] = True
                continue
            moving[row] = True
            back = np.linalg.inv(current.to_pixels[row])
            maps[row], depths[row] = before @ back, frame[3] @ back
        flat = np.flatnonzero(moving[current.ids])
        which = current.ids.ravel()[flat]
        xx, yy = (flat % width).astype(np.float32), (flat // width).astype(np.float32)

        def apply(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
            a, b, c = (coefficients[:, k][which] for k in range(3))
            return np.asarray(a * xx + b * yy + c, dtype=np.float32)

        third = apply(maps[:, 2])
        behind = third <= 1e-9
        third[behind] = 1.0
        before_near = apply(depths) / third
        before_near[behind] = -1.0
        px.ravel()[flat], py.ravel()[flat] = apply(maps[:, 0]) / third, apply(maps[:, 1]) / third
        near_before.ravel()[flat] = before_near

    limit = 4.0 * max(width, height)
    px, py = np.clip(px, -limit, limit), np.clip(py, -limit, limit)
    motion = np.stack([px - x, py - y], axis=2).astype(np.float32)
    ix, iy = np.rint(px).astype(np.intp), np.rint(py).astype(np.intp)
    in_view = (ix >= 0) & (ix < width) & (iy >= 0) & (iy < height) & (near_before >= 0)
    ix, iy = np.clip(ix, 0, width - 1), np.clip(iy, 0, height - 1)
    place = iy * width + ix
    row_of = {key: row for row, key in enumerate(previous.keys.tolist())}
    rows_before = np.array([row_of.get(key, -1) for key in keys.tolist()], dtype=np.int32)
    same = previous.ids.ravel()[place] == rows_before[current.ids]
    # neighbouring pieces of one thing (road chunks, sides of a car): same class at the same depth
    there = previous.inverse_depth.ravel()[place]
    close = np.abs(there - near_before) <= _DEPTH_SLACK * near_before
    alike = previous.labels.ravel()[place] == current.labels
    visible = in_view & ~gone[current.ids] & (same | (close & alike))
    return motion, visible
