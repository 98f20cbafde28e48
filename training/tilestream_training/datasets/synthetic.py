"""Stills of the synthetic street: as many labelled pictures as one likes, no files needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

import tilestream_street
from tilestream_training.datasets.base import (
    DatasetError,
    Sample,
    SegmentationDataset,
    UInt8Array,
    label_lookup,
)

# Streets of different splits have different seeds by construction: what is measured was never trained on.
SEEDS = {
    "train": range(0, 10_000),
    "val": range(500_000, 510_000),
    "test": range(1_000_000, 1_010_000),
}
FPS = 15.0
VIEWS_PER_STREET = 4
SPACING = 150  # frames between two views of a street: ten seconds, so that little of it is seen twice


class Frame(Protocol):
    """What is needed of a rendered frame."""

    @property
    def image(self) -> UInt8Array:
        """uint8 [H, W, 3], RGB."""

    @property
    def labels(self) -> UInt8Array:
        """uint8 [H, W], the street's own indices."""


class Street(Protocol):
    """What is needed of a street."""

    def frame(self, t: int, /) -> Frame:
        """Frame ``t`` from 0."""


StreetFactory = Callable[[int, int, int, float], Street]  # seed, width, height, fps


class SyntheticStills(SegmentationDataset):
    """``count`` stills, the views of one street next to each other.

    ``cache``: a folder to keep rendered stills in (lossless, so that they are the same from there); stills
    of another version of the generator are never taken. ``street``: makes a street, for tests.
    """

    class_names = tilestream_street.CLASS_NAMES
    palette = tuple((int(r), int(g), int(b)) for r, g, b in tilestream_street.PALETTE)
    licence = "none needed (generated)"

    def __init__(
        self,
        count: int,
        split: str = "train",
        size: tuple[int, int] = (480, 360),
        cache: Path | None = None,
        street: StreetFactory = tilestream_street.SyntheticStreet,
    ) -> None:
        """``size``: width, height in pixels. Raises :class:`DatasetError`."""
        if split not in SEEDS:
            raise DatasetError(f"the synthetic street has no split {split!r}; there are {', '.join(SEEDS)}")
        limit = len(SEEDS[split]) * VIEWS_PER_STREET
        if not 1 <= count <= limit:
            raise DatasetError(f"the number of synthetic stills must be 1 to {limit}, not {count}")
        if min(size) < 16:
            raise DatasetError(f"synthetic stills need at least 16 x 16 pixels, not {size[0]} x {size[1]}")
        self.size = size
        self._count, self._seeds, self._make = count, SEEDS[split], street
        self._cache = cache / f"{_generator_version()}-{size[0]}x{size[1]}" if cache is not None else None
        self._lookup = label_lookup({index: index for index in range(len(self.class_names))})
        self._street: tuple[int, Street] | None = None  # the latest one: making it costs as much as a view

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        seed, t = self.view(index)
        name = f"street_{seed:07d}_{t:05d}"
        path = self._cache / f"{name}.png" if self._cache is not None else None
        kept = _read(path, self.size) if path is not None else None
        if kept is None:
            frame = self._street_of(seed).frame(t)
            kept = np.dstack([frame.image, self._lookup[frame.labels]])
            if path is not None:
                _write(path, kept)
        return Sample(np.ascontiguousarray(kept[..., :3]), np.ascontiguousarray(kept[..., 3]), name)

    def view(self, index: int) -> tuple[int, int]:
        """(seed, frame number) of a still. Raises IndexError."""
        if not 0 <= index < self._count:
            raise IndexError(f"still {index} of {self._count}")
        return self._seeds[index // VIEWS_PER_STREET], index % VIEWS_PER_STREET * SPACING

    def _street_of(self, seed: int) -> Street:
        if self._street is None or self._street[0] != seed:
            self._street = (seed, self._make(seed, *self.size, FPS))
        return self._street[1]


def _generator_version() -> str:
    """A digest of the generator's source: any change of it may change the pictures."""
    digest = hashlib.sha256()
    for path in sorted(Path(tilestream_street.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _read(path: Path, size: tuple[int, int]) -> UInt8Array | None:
    """uint8 [H, W, 4]: colours and labels; None where there is no usable file."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if stored is None or stored.shape != (size[1], size[0], 4) or stored.dtype != np.uint8:
        return None
    return np.asarray(stored[..., [2, 1, 0, 3]], dtype=np.uint8)


def _write(path: Path, still: UInt8Array) -> None:
    """One file for both, the labels as its fourth channel, put in place whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    _, encoded = cv2.imencode(".png", still[..., [2, 1, 0, 3]], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    part.write_bytes(encoded.tobytes())
    part.replace(path)
