"""Tiny pictures and labels on disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (6, 8)  # height, width


def put_image(path: Path, value: int = 100, size: tuple[int, int] = SIZE) -> None:
    """A picture whose red, green and blue are value, value + 1 and value + 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), (value + 2, value + 1, value), dtype=np.uint8)
    assert cv2.imwrite(str(path), image)


def put_labels(path: Path, labels: np.ndarray | int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(SIZE, labels, dtype=np.uint8) if isinstance(labels, int) else labels
    assert cv2.imwrite(str(path), array)
