"""Pictures and videos without labels, to learn from teachers' answers."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from tilestream_training.datasets.base import (
    IGNORE_LABEL,
    DatasetError,
    Sample,
    SegmentationDataset,
    UInt8Array,
    read_image,
)

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm")
SECONDS_APART = 0.5  # between two frames of a video; nearer ones show nearly the same
WIDTH = 480  # wider pictures are scaled down to this


class Unlabelled(SegmentationDataset):
    """A picture, a video, or a folder of both; every pixel is ignored.

    ``width``: wider ones are scaled down to it. Raises :class:`DatasetError` where there is nothing to read.
    """

    class_names = ()
    palette = ()
    licence = "Pictures without labels: licence not stated."

    def __init__(self, root: Path, width: int = WIDTH) -> None:
        if not root.exists():
            raise DatasetError(f"{root} is not there")
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
        self._images: list[UInt8Array] = []
        for path in files:
            if path.suffix.lower() in PICTURES:
                self._images.append(_fit(read_image(path), width))
            elif path.suffix.lower() in VIDEOS:
                self._images += _frames(path, width)
        if not self._images:
            raise DatasetError(f"{root} has no pictures or videos ({', '.join(PICTURES + VIDEOS)})")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        image = self._images[index]
        return Sample(image, np.full(image.shape[:2], IGNORE_LABEL, np.uint8), f"unlabelled {index}")


def open_unlabelled(where: str) -> Unlabelled:
    """``PATH`` or ``PATH:WIDTH``."""
    match = re.fullmatch(r"(.+):(\d+)", where)
    path, width = (match[1], int(match[2])) if match else (where, WIDTH)
    return Unlabelled(Path(path).expanduser(), width)


def _frames(path: Path, width: int) -> list[UInt8Array]:
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise DatasetError(f"{path} cannot be read as a video")
    step, number, frames = max(1, round((video.get(cv2.CAP_PROP_FPS) or 30) * SECONDS_APART)), 0, []
    while video.grab():
        if number % step == 0:
            good, frame = video.retrieve()
            if good:
                frames.append(_fit(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8), width))
        number += 1
    video.release()
    return frames


def _fit(image: UInt8Array, width: int) -> UInt8Array:
    if image.shape[1] <= width:
        return image
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
