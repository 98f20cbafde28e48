"""Pictures of cameras that hang turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilestream.messages import Picture

ROTATIONS = (0, 90, 180, 270)  # degrees clockwise


def swapped(size: tuple[int, int], rotation: int) -> tuple[int, int]:
    """(width, height) before it is turned that has this size afterwards, and the other way round."""
    return (size[1], size[0]) if rotation % 180 else size


def turned(picture: Picture, rotation: int) -> Picture:
    """A picture with pixels, turned by 0, 90, 180 or 270 degrees clockwise, its sizes too."""
    if not rotation or picture.pixels is None:
        return picture
    pixels = np.ascontiguousarray(np.rot90(picture.pixels, -rotation // 90))
    width, height = (picture.height, picture.width) if rotation % 180 else (picture.width, picture.height)
    return replace(
        picture, width=width, height=height, compute=(pixels.shape[1], pixels.shape[0]), pixels=pixels
    )
