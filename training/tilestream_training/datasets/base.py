"""The one interface that every data set has, whatever its files look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tilestream_training.datasets.png import read_indices

UInt8Array = npt.NDArray[np.uint8]

IGNORE_LABEL = 255  # what every data set maps its void pixels to


class DatasetError(Exception):
    """The data on disk is not what it should be; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Sample:
    """``image``: uint8 [H, W, 3] RGB. ``labels``: uint8 [H, W], 0..classes-1 or IGNORE_LABEL."""

    image: UInt8Array
    labels: UInt8Array
    name: str


class SegmentationDataset(ABC):
    """Labelled stills, by index."""

    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    licence: str = "not stated"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...


def read_image(path: Path) -> UInt8Array:
    """Read an image as uint8 [H, W, 3] RGB. Raises :class:`DatasetError`."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DatasetError(f"cannot read image {path}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_labels(path: Path) -> UInt8Array:
    """Read a gray or palette label PNG as uint8 [H, W] indices. Raises :class:`DatasetError`."""
    labels = read_indices(path)
    if labels is not None:
        return labels
    decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise DatasetError(f"cannot read label image {path}")
    raise DatasetError(
        f"{path} is not a gray or palette PNG of at most 8 bits (decoded: {decoded.shape} {decoded.dtype})"
    )


def load_pair(image_path: Path, label_path: Path, lookup: UInt8Array | None = None) -> Sample:
    """Read image and labels, map label ids through ``lookup`` (uint8 [256]), check that the sizes agree."""
    image, labels = read_image(image_path), read_labels(label_path)
    if image.shape[:2] != labels.shape:
        raise DatasetError(f"{image_path} is {image.shape[:2]} but {label_path} is {labels.shape}")
    if lookup is not None:
        labels = lookup[labels]
    return Sample(image, labels, image_path.stem)


def label_lookup(mapping: dict[int, int]) -> UInt8Array:
    """uint8 [256]: raw label id -> class index; ids that ``mapping`` leaves out are ignored."""
    table = np.full(256, IGNORE_LABEL, dtype=np.uint8)
    for raw, index in mapping.items():
        table[raw] = index
    return table
