"""CamVid, 11 classes, as lists of ``image label`` pairs (``train.txt``, ``val.txt``, ``test.txt``)."""

from __future__ import annotations

import re
from pathlib import Path

from tilestream_training.datasets.base import (
    DatasetError,
    Sample,
    SegmentationDataset,
    label_lookup,
    load_pair,
)

CLASS_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
PALETTE = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip

# `val` is consecutive frames 07959..08159 of drive 0016E5, and `train` holds its neighbours. Left out of
# training, the stretch stays unseen and can serve as the streaming benchmark.
STRETCH_DRIVE = "0016E5"
STRETCH_WINDOW = range(7700, 8401)


class CamVid(SegmentationDataset):
    """One split of CamVid; ``train`` leaves out the neighbourhood of the streaming stretch."""

    class_names = CLASS_NAMES
    palette = PALETTE
    licence = (
        "CamVid: CC BY-NC, research use. Stills 0016E5_07700 .. 08400, around the streaming stretch, "
        "were left out of training."
    )

    def __init__(self, root: Path, split: str = "train") -> None:
        listing = root / f"{split}.txt"
        if not listing.is_file():
            raise DatasetError(
                f"{listing} is missing: expected lines of 'image label' paths relative to {root}"
            )
        pairs = [line.split() for line in listing.read_text().splitlines() if line.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise DatasetError(f"{listing}: every line must be 'image label'")
        self.pairs = [(root / image, root / label) for image, label in pairs]
        if split == "train":
            self.pairs = [pair for pair in self.pairs if not near_stretch(pair[0].stem)]
        self._lookup = label_lookup({index: index for index in range(len(CLASS_NAMES))})

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        return load_pair(*self.pairs[index], self._lookup)


def near_stretch(stem: str) -> bool:
    """Whether a frame name such as ``0016E5_07959`` lies in the window around the streaming stretch."""
    match = re.fullmatch(rf"{STRETCH_DRIVE}_(\d+)", stem)
    return match is not None and int(match[1]) in STRETCH_WINDOW
