"""Textured planar quads, the only thing the renderer knows."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


RIM = 2
"""Texels that repeat a texture's edge around it, see `Texture`."""


class Texture:
    """uint8 RGBA image with its halved copies (mipmaps); a pixel shows where alpha > 127.

    Each level has a rim of `RIM` texels that repeat its edge, and beyond it comes the plain colour
    `beyond`: OpenCV's own repetition of edges costs far more than drawing the texture does.
    """

    __slots__ = ("beyond", "levels", "opaque")

    def __init__(self, rgba: Image, opaque: bool = True, bleed: bool = True) -> None:
        if not opaque and bleed:
            rgba = _bleed(rgba)
        self.opaque = opaque
        self.levels: list[Image] = []
        while True:
            rim = cv2.copyMakeBorder(rgba, RIM, RIM, RIM, RIM, cv2.BORDER_REPLICATE)
            self.levels.append(np.asarray(rim, dtype=np.uint8))
            h, w = rgba.shape[:2]
            if min(h, w) <= 4 or len(self.levels) == 8:
                break
            smaller = cv2.resize(rgba, (max(2, w // 2), max(2, h // 2)), interpolation=cv2.INTER_AREA)
            rgba = np.asarray(smaller, dtype=np.uint8)
        r, g, b = (float(v) for v in rgba[..., :3].mean(axis=(0, 1)))
        self.beyond = (r, g, b, 255.0 if opaque else 0.0)


def _bleed(rgba: Image) -> Image:
    """Fills see-through pixels with nearby colours, so that edges do not take on the blank's colour."""
    h, w = rgba.shape[:2]
    solid = (rgba[..., 3] > 127).astype(np.float32)
    covered = rgba[..., :3] * solid[..., None]
    # a quarter of the size will do, for what shows of it is a rim
    size = (max(1, w // 4), max(1, h // 4))
    weight = cv2.blur(cv2.resize(solid, size, interpolation=cv2.INTER_AREA), (5, 5))[..., None]
    weight = weight + np.float32(1e-3)
    near = cv2.blur(cv2.resize(covered, size, interpolation=cv2.INTER_AREA), (5, 5))
    mean = covered.sum(axis=(0, 1)) / np.float32(max(1.0, float(solid.sum())))
    spread = cv2.resize((near + np.float32(1e-3) * mean) / weight, (w, h), interpolation=cv2.INTER_LINEAR)
    out = rgba.copy()
    out[..., :3] = np.where(solid[..., None] > 0, rgba[..., :3], np.clip(spread, 0, 255))
    return out


@dataclass(slots=True)
class Quads:
    """A growing list of quads.

    `frames` holds float64 [4, 3] matrices: (u, v, 1) of the texture in [0, 1] -> homogeneous world point.
    `facing` is +1 or -1 for quads seen from one side only (+1: the texture reads as drawn), 0 for both.
    """

    frames: list[Floats] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    textures: list[Texture] = field(default_factory=list)
    facing: list[int] = field(default_factory=list)

    def add(self, frame: Floats, key: int, label: int, texture: Texture, facing: int = 0) -> None:
        self.frames.append(frame)
        self.keys.append(key)
        self.labels.append(label)
        self.textures.append(texture)
        self.facing.append(facing)

    def extend(self, other: Quads) -> None:
        self.frames.extend(other.frames)
        self.keys.extend(other.keys)
        self.labels.extend(other.labels)
        self.textures.extend(other.textures)
        self.facing.extend(other.facing)

    def __len__(self) -> int:
        return len(self.frames)


def parallelogram(origin: Floats, along_u: Floats, along_v: Floats) -> Floats:
    """float64 [4, 3] of the quad origin + u * along_u + v * along_v (v runs down the texture)."""
    frame = np.zeros((4, 3))
    frame[:3, 0], frame[:3, 1], frame[:3, 2] = along_u, along_v, origin
    frame[3, 2] = 1.0
    return frame


def ground_quad(corners: Floats, height: float) -> Floats:
    """float64 [4, 3] of a level quad; `corners` [4, 2] are (x, z) of uv (0,0), (1,0), (1,1), (0,1).

    Any convex quad will do: the texture is laid on by a projective map, which keeps motion exact.
    """
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    # relative to the first corner: float32 corners far from the origin would lose millimetres
    origin = corners[0]
    plane = cv2.getPerspectiveTransform(unit, (corners - origin).astype(np.float32)).astype(np.float64)
    weights = plane[2]
    frame = np.stack(
        [plane[0] + origin[0] * weights, height * weights, plane[1] + origin[1] * weights, weights]
    )
    return np.asarray(frame, dtype=np.float64)
