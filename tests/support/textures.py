"""Luma with detail, and pairs of it that show a known motion."""

from __future__ import annotations

import cv2
import numpy as np


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [height, width] with detail at several sizes."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), s) * s for s in (1.5, 4, 10)]
    total = sum(layers)
    return np.clip(128 + 50 * total / total.std(), 0, 255).astype(np.uint8)


def moved_pair(
    dx: int, dy: int, height: int = 120, width: int = 160, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(previous, current): what is at (x, y) of the current one was at (x + dx, y + dy)."""
    wide = texture(height + 40, width + 40, seed)
    previous = wide[20 : 20 + height, 20 : 20 + width]
    current = wide[20 + dy : 20 + dy + height, 20 + dx : 20 + dx + width]
    return np.ascontiguousarray(previous), np.ascontiguousarray(current)


def noisy(scene: np.ndarray, rng: np.random.Generator, strength: float = 1.3) -> np.ndarray:
    """The same scene as a sensor would see it once more."""
    return np.clip(scene + rng.normal(0, strength, scene.shape), 0, 255).astype(np.uint8)
