"""Flat pictures of upright things: turned towards the camera, or fixed across the street."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tilestream_street.camera import Camera
from tilestream_street.surface import Floats, Texture


@dataclass(frozen=True, slots=True)
class Upright:
    """A billboard that turns about its vertical axis to face the camera."""

    foot: Floats
    """float64 [3], the bottom centre, metres."""
    width: float
    height: float
    texture: Texture
    label: int
    key: int
    min_height: float
    """Not drawn when its height is below this many output pixels."""
    min_width: float = 0.0
    """Drawn at least this many output pixels wide: keeps far poles visible."""

    def frame(self, camera: Camera) -> Floats | None:
        """float64 [4, 3] as in `Quads`, or None when too small to be seen or behind the camera."""
        # plain numbers: a hundred of these a frame, and small arrays are slow
        x, y, z = self.foot.tolist()
        cx, cy, cz = camera.position.tolist()
        ax, ay, az = camera.rotation[2].tolist()
        dx, dy, dz = x - cx, y - cy, z - cz
        distance = ax * dx + ay * dy + az * dz
        if distance < 0.4 or camera.focal * self.height < self.min_height * distance:
            return None
        # across the line of sight, not parallel to the image plane: passing things keep their shape
        width = max(self.width, self.min_width * distance / camera.focal)
        scale = width / math.hypot(dx, dz)
        ux, uz = dz * scale, -dx * scale
        return np.array(
            [
                [ux, 0.0, x - ux / 2],
                [0.0, self.height, y - self.height],
                [uz, 0.0, z - uz / 2],
                [0.0, 0.0, 1.0],
            ]
        )


@dataclass(frozen=True, slots=True)
class Fixed:
    """A quad that stands still but is left out when too small to be seen."""

    frame: Floats
    texture: Texture
    label: int
    key: int
    size: float
    """Metres of its smaller side."""
    min_size: float
    """Not drawn when `size` is below this many output pixels."""

    def shown(self, camera: Camera) -> bool:
        # to the nearer end of the quad's top edge: long ones start behind the camera
        start = camera.rotation[2] @ (self.frame[:3, 2] - camera.position)
        end = start + camera.rotation[2] @ self.frame[:3, 0]
        if max(start, end) < 0.2:
            return False
        distance = max(float(min(start, end)), 0.2)
        return camera.focal * self.size >= self.min_size * distance
