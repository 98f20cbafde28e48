"""Random textures: smooth fractal noise and grain."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]


_BANK_SIZE = 1024


@cache
def _bank() -> Field:
    """float32 [1024, 1024] of white noise, the same in every process."""
    return np.random.default_rng(20170).standard_normal((_BANK_SIZE, _BANK_SIZE), dtype=np.float32)


def white(rng: np.random.Generator, height: int, width: int) -> Field:
    """float32 [height, width] of white noise: big fields are cut from a bank, to save time."""
    if height * width <= 4096 or height > _BANK_SIZE // 2 or width > _BANK_SIZE // 2:
        return rng.standard_normal((height, width), dtype=np.float32)
    y, x = int(rng.integers(_BANK_SIZE - height)), int(rng.integers(_BANK_SIZE - width))
    return _bank()[y : y + height, x : x + width]


def fractal(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4, fall: float = 0.55
) -> Field:
    """float32 [height, width], mean about 0, spread about 1; `cell` is the largest blob's size in pixels."""
    total = np.zeros((height, width), dtype=np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        rows, columns = max(2, round(height / cell) + 1), max(2, round(width / cell) + 1)
        if rows >= height and columns >= width:
            grid = white(rng, height, width)
        else:
            small = white(rng, min(rows, height), min(columns, width))
            # fine octaves need no smooth curves
            curve = cv2.INTER_CUBIC if cell > 12 else cv2.INTER_LINEAR
            grid = np.asarray(cv2.resize(small, (width, height), interpolation=curve), dtype=np.float32)
        cv2.scaleAdd(grid, weight, total, dst=total)
        power += weight * weight
        weight *= fall
        cell = max(1.0, cell / 2.2)
    return (total / np.float32(np.sqrt(power))).astype(np.float32, copy=False)


def modulate(rgba: Image, field: Field, strength: float) -> None:
    """Multiplies the colours of uint8 [H, W, 4] in place by 1 + strength * field."""
    gain = np.float32(1.0) + np.float32(strength) * field
    cv2.multiply(rgba, cv2.merge([gain, gain, gain, np.ones_like(gain)]), dst=rgba, dtype=cv2.CV_8U)


def scaled(rgba: Image, gain: float | tuple[float, float, float]) -> Image:
    """A copy with its colours multiplied by `gain`."""
    r, g, b = (gain, gain, gain) if isinstance(gain, float | int) else gain
    steps = np.arange(256, dtype=np.float64)[:, None] * (r, g, b, 1.0)
    table = np.clip(np.rint(steps), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgba, table[None]), dtype=np.uint8)


def jitter(
    rng: np.random.Generator, colour: tuple[float, float, float], spread: float
) -> tuple[float, float, float]:
    """A colour near `colour`: brightness varies by `spread`, each channel by a third of it."""
    gain = 1.0 + spread * float(rng.uniform(-1, 1))
    r, g, b = (float(np.clip(c * gain * (1.0 + spread / 3 * rng.uniform(-1, 1)), 0, 255)) for c in colour)
    return r, g, b
