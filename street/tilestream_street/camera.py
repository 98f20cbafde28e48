"""Pinhole camera. World axes in metres: x right, y down, z ahead; pixel (x, y) has its centre at integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Camera:
    """`rotation` float64 [3, 3] and `translation` float64 [3] take world points to camera points."""

    rotation: Floats
    translation: Floats
    intrinsics: Floats
    """float64 [3, 3], in output pixels."""
    position: Floats

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.intrinsics[0, 0])

    @property
    def projection(self) -> Floats:
        """float64 [3, 4], homogeneous world point -> (x * depth, y * depth, depth)."""
        return self.intrinsics @ np.column_stack([self.rotation, self.translation])

    def to_previous(self, previous: Camera) -> tuple[Floats, Floats]:
        """(A [3, 3], b [3]) with previous pixel ~ A @ (x, y, 1) + b / depth, for points that stand still."""
        turn = previous.rotation @ self.rotation.T
        shift = previous.translation - turn @ self.translation
        return previous.intrinsics @ turn @ np.linalg.inv(self.intrinsics), previous.intrinsics @ shift


def intrinsics(width: int, height: int, fov_degrees: float, horizon: float) -> Floats:
    """`fov_degrees` spans 4/3 of the height, so that all sizes show the same vertical part of the scene.

    `horizon` is the height of the optical axis as a fraction of the frame's height from the top.
    """
    focal = height * (4.0 / 3.0) / 2.0 / np.tan(np.radians(fov_degrees) / 2.0)
    return np.array(
        [[focal, 0.0, (width - 1) / 2.0], [0.0, focal, height * horizon - 0.5], [0.0, 0.0, 1.0]],
        dtype=np.float64,
    )


def look(position: Floats, yaw: float, pitch: float, roll: float, matrix: Floats) -> Camera:
    """Camera at `position`; yaw to the right, pitch downwards, roll clockwise, in radians."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    right = np.array([cy, 0.0, -sy])
    ahead = np.array([sy * cp, sp, cy * cp])
    down = np.cross(ahead, right)
    tilt = np.array([[np.cos(roll), np.sin(roll), 0.0], [-np.sin(roll), np.cos(roll), 0.0], [0.0, 0.0, 1.0]])
    rotation = tilt @ np.stack([right, down, ahead])
    return Camera(rotation, -rotation @ position, matrix, position)
