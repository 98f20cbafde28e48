"""Tree, bush and hedge sprites."""

from __future__ import annotations

import cv2
import numpy as np

from tilestream_street.noise import Image, fractal, jitter, scaled
from tilestream_street.seeding import pick
from tilestream_street.style import Style


def _foliage(rng: np.random.Generator, h: int, w: int, style: Style, cover: Image) -> Image:
    """RGBA leaves where `cover` > 127: clumps lit from above, dark gaps, leafy grain."""
    base = np.array(jitter(rng, pick(rng, style.leaf), 0.15), dtype=np.float32)
    clumps = fractal(rng, h, w, max(8, w / 6), 3, 0.7)
    leaves = fractal(rng, h, w, 7, 3, 0.9)
    # light from above: a clump's upper rim is brighter than what is below it
    rim = clumps - np.roll(clumps, max(2, h // 30), axis=0)
    gain = 1.0 + 0.16 * clumps + 0.22 * leaves - 0.32 * rim
    gain *= np.linspace(1.15, 0.72, h, dtype=np.float32)[:, None]
    image = np.zeros((h, w, 4), dtype=np.uint8)
    image[..., :3] = np.clip(base * np.clip(gain, 0.25, 1.9)[..., None], 0, 255)
    image[..., 3] = cover
    return image


def tree_image(rng: np.random.Generator, style: Style) -> Image:
    """uint8 RGBA [384, 256, 4]: trunk from the bottom centre, crown above."""
    h, w = 384, 256
    crown = np.zeros((h, w), dtype=np.uint8)
    shape = pick(rng, ("round", "round", "oval", "cone", "wide"))
    low = int(h * rng.uniform(0.55, 0.72))
    for _ in range(46):
        v = float(rng.random())
        if shape == "cone":
            spread = 0.06 + 0.4 * v
        elif shape == "oval":
            spread = 0.36 * np.sqrt(max(0.0, 1 - (2 * v - 1) ** 2)) + 0.03
        else:
            spread = 0.44 * np.sqrt(max(0.0, 1 - (1.8 * v - 0.9) ** 2))
        radius = int(w * rng.uniform(0.07, 0.14))
        x = w / 2 + float(rng.uniform(-1, 1)) * max(0.0, spread * w - radius)
        y = radius + 4 + v * (low - radius - 4)
        cv2.circle(crown, (int(x), int(y)), radius, 255, -1)
    # a ragged outline
    ragged = cv2.GaussianBlur(crown, (0, 0), 5).astype(np.float32) / 255 + 0.16 * fractal(
        rng, h, w, 22, 4, 0.85
    )
    crown = np.where(ragged > 0.5, np.uint8(255), np.uint8(0))
    crown = cv2.medianBlur(crown, 5).astype(np.uint8)
    bark = np.array(
        jitter(rng, pick(rng, ((92, 74, 58), (70, 58, 48), (116, 104, 90))), 0.2), dtype=np.float32
    )
    trunk = np.zeros((h, w), dtype=np.uint8)
    thick = float(rng.uniform(7, 13))
    lean = float(rng.uniform(-8, 8))
    points = np.array(
        [
            (w / 2 - thick, h),
            (w / 2 + thick, h),
            (w / 2 + thick * 0.6 + lean, h * 0.4),
            (w / 2 - thick * 0.6 + lean, h * 0.4),
        ]
    )
    cv2.fillPoly(trunk, [points.astype(np.int32)], 255)
    for _ in range(4):
        end = (int(w / 2 + rng.uniform(-60, 60)), int(low - rng.uniform(20, 120)))
        cv2.line(trunk, (int(w / 2 + lean * 0.6), int(h * 0.66)), end, 255, 6)
    image = np.zeros((h, w, 4), dtype=np.uint8)
    light = np.linspace(1.2, 0.65, w, dtype=np.float32)
    texture = (1 + 0.22 * fractal(rng, h, w, 6, 2)) * light
    image[..., :3] = np.clip(bark * texture[..., None], 0, 255)
    image[..., 3] = trunk
    foliage = _foliage(rng, h, w, style, crown)
    image = np.where(crown[..., None] > 127, foliage, image)
    return scaled(image, style.light.gain)


def bush_image(rng: np.random.Generator, style: Style) -> Image:
    """uint8 RGBA [128, 256, 4], full at the bottom, ragged at the top."""
    h, w = 128, 256
    top = 34 + 16 * fractal(rng, 1, w, 70, 5, 0.7)[0]
    top += 70 * np.clip(np.abs(np.linspace(-1, 1, w)) - 0.8, 0, None) / 0.2
    cover = np.where(np.arange(h)[:, None] > top[None, :], np.uint8(255), np.uint8(0))
    return scaled(_foliage(rng, h, w, style, cover), style.light.gain)


def tree_shadow(rng: np.random.Generator, style: Style) -> Image:
    """uint8 RGBA [128, 128, 4]; colour is the light that is left (255: all)."""
    field = fractal(rng, 128, 128, 26, 4, 0.8)
    yy, xx = np.mgrid[-1:1:128j, -1:1:128j]
    inside = (1.0 - np.sqrt(xx * xx + yy * yy)) * 3.2 + 0.5 * field
    dark = cv2.GaussianBlur(np.clip(inside, 0, 1).astype(np.float32), (5, 5), 0)
    image = np.full((128, 128, 4), 255, dtype=np.uint8)
    image[..., :3] = (255 * (1 - style.light.shadow * dark))[..., None]
    return image
