"""Cityscapes: stills with fine labels, and the 30-frame clips around them.

The tree is that of the official archives, unpacked into one folder::

    leftImg8bit/{split}/{city}/{city}_{sequence}_{frame}_leftImg8bit.png
    gtFine/{split}/{city}/{city}_{sequence}_{frame}_gtFine_labelIds.png
    leftImg8bit_sequence/{split}/{city}/{city}_{sequence}_{frame}_leftImg8bit.png
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from tilestream_training.datasets import camvid
from tilestream_training.datasets.base import (
    DatasetError,
    Sample,
    SegmentationDataset,
    UInt8Array,
    label_lookup,
    load_pair,
    read_image,
)

ClassSet = Literal["cityscapes19", "camvid11"]

CLASS_NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
# The id in *_labelIds.png of each of the 19 classes; all other ids are void.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

# The CamVid class of each of the 19, as CamVid's own 32 classes are usually merged into 11: walls count as
# building, lights as sign, low plants as tree, lorries and trains as car, two-wheelers as bicyclist.
TO_CAMVID = (
    "road", "pavement", "building", "building", "fence", "pole", "sign", "sign", "tree", "tree", "sky",
    "pedestrian", "bicyclist", "car", "car", "car", "car", "bicyclist", "bicyclist",
)  # fmt: skip

CLIP_LENGTH = 30
LABELLED_INDEX = 19  # the labelled frame is the 20th of its clip

_IMAGE_SUFFIX = "_leftImg8bit.png"
_LABEL_SUFFIX = "_gtFine_labelIds.png"


class Cityscapes(SegmentationDataset):
    """One split of the finely labelled stills, with the 19 training classes or with CamVid's 11."""

    licence = "Cityscapes terms of use (non-commercial)"

    def __init__(self, root: Path, split: str = "train", classes: ClassSet = "cityscapes19") -> None:
        self.pairs = _labelled_stills(root, split)
        self.class_names, self.palette, self._lookup = _class_set(classes)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        return load_pair(*self.pairs[index], self._lookup)


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames, one of them labelled."""

    name: str
    frames: tuple[Path, ...]
    labels: Path
    lookup: UInt8Array  # uint8 [256], raw label id -> class index
    labelled_index: int = LABELLED_INDEX

    def images(self) -> Iterator[UInt8Array]:
        """The frames in order, uint8 [H, W, 3] RGB. Raises :class:`DatasetError`."""
        return (read_image(path) for path in self.frames)

    def sample(self) -> Sample:
        """The labelled frame. Raises :class:`DatasetError`."""
        return load_pair(self.frames[self.labelled_index], self.labels, self.lookup)


class CityscapesClips(Sequence[Clip]):
    """The 30-frame clips of one split, each around the labelled frame at index 19."""

    def __init__(self, root: Path, split: str = "val", classes: ClassSet = "cityscapes19") -> None:
        self.class_names, self.palette, lookup = _class_set(classes)
        self._clips = [
            _clip(root / "leftImg8bit_sequence" / split, labels, lookup)
            for labels in _label_files(root, split)
        ]

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...

    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        return self._clips[index]


def _class_set(
    classes: ClassSet,
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...], UInt8Array]:
    """Names, palette and lookup (uint8 [256], raw label id -> class index)."""
    if classes == "cityscapes19":
        return CLASS_NAMES, PALETTE, label_lookup({raw: index for index, raw in enumerate(LABEL_IDS)})
    if classes == "camvid11":
        mapping = {
            raw: camvid.CLASS_NAMES.index(name) for raw, name in zip(LABEL_IDS, TO_CAMVID, strict=True)
        }
        return camvid.CLASS_NAMES, camvid.PALETTE, label_lookup(mapping)
    raise DatasetError(f"unknown set of classes {classes!r}; there are cityscapes19, camvid11")


def _label_files(root: Path, split: str) -> list[Path]:
    """All label images of a split, ordered by city, sequence and frame."""
    folder = root / "gtFine" / split
    files = sorted(folder.glob(f"*/*{_LABEL_SUFFIX}"))
    if not files:
        splits = ", ".join(sorted(path.name for path in (root / "gtFine").glob("*") if path.is_dir()))
        raise DatasetError(
            f"no {folder}/CITY/*{_LABEL_SUFFIX}: expected the official archives unpacked in {root} "
            f"(splits there: {splits or 'none'})"
        )
    return files


def _labelled_stills(root: Path, split: str) -> list[tuple[Path, Path]]:
    pairs = []
    for labels in _label_files(root, split):
        stem = labels.name.removesuffix(_LABEL_SUFFIX)
        pairs.append((root / "leftImg8bit" / split / labels.parent.name / f"{stem}{_IMAGE_SUFFIX}", labels))
    missing = [image for image, _ in pairs if not image.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(pairs)} labelled stills have no image, the first is {missing[0]}"
        )
    labelled = {image for image, _ in pairs}
    extra = [p for p in (root / "leftImg8bit" / split).glob(f"*/*{_IMAGE_SUFFIX}") if p not in labelled]
    if extra:
        raise DatasetError(f"{len(extra)} images have no {_LABEL_SUFFIX[1:]}, the first is {min(extra)}")
    return pairs


def _clip(folder: Path, labels: Path, lookup: UInt8Array) -> Clip:
    """The clip around a labelled frame; frame numbers count on through a clip, but need not start at 0."""
    stem = labels.name.removesuffix(_LABEL_SUFFIX)
    match = re.fullmatch(r"(.+_\d+)_(\d+)", stem)
    if match is None:
        raise DatasetError(f"{labels} is not named CITY_SEQUENCE_FRAME{_LABEL_SUFFIX}")
    sequence, digits = match[1], len(match[2])
    first = int(match[2]) - LABELLED_INDEX
    city = folder / labels.parent.name
    numbers = range(first, first + CLIP_LENGTH)
    frames = tuple(city / f"{sequence}_{number:0{digits}d}{_IMAGE_SUFFIX}" for number in numbers)
    missing = [path for path in frames if not path.is_file()]
    if missing:
        raise DatasetError(
            f"the clip of {stem} lacks {len(missing)} of its {CLIP_LENGTH} frames: {missing[0]}"
        )
    return Clip(stem, frames, labels, lookup)
