"""Your own data: a folder with images/ and labels/ (PNG, one class index per pixel), matched by file stem.

::

    images/NAME.jpg    labels/NAME.png           or, in parts:   train/images/...  val/images/...  test/...
    classes.txt        one class per line, NAME or NAME R G B; a line "ignore = 255" names the void value
    classes.json       or: {"classes": [{"name": "road", "color": [128, 64, 128]}, ...], "ignore": 255}

Without a list of classes they are numbered as far as the labels go, which takes reading all of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tilestream_training.datasets.base import (
    IGNORE_LABEL,
    DatasetError,
    Sample,
    SegmentationDataset,
    load_pair,
    read_labels,
)

Colour = tuple[int, int, int]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_CLASSES = 255  # 255 itself is IGNORE_LABEL


@dataclass(frozen=True, slots=True)
class ClassList:
    """``ignore``: the raw label value of void pixels."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...] = field(default=())
    ignore: int = IGNORE_LABEL

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ValueError(f"there must be 1 to {MAX_CLASSES} classes, not {len(self.names)}")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"class names occur twice: {', '.join(twice)}")
        if not len(self.names) <= self.ignore <= 255:
            raise ValueError(
                f"ignore must lie beyond the classes, {len(self.names)} to 255, not {self.ignore}"
            )


class Folder(SegmentationDataset):
    """One split of a plain folder.

    ``split`` is a subfolder, where there are any (train, val, test, ...). A folder that is not split has
    all its pictures in "train" (or "all") and no other split, so that nobody measures on what was trained on
    without having asked for it.
    """

    def __init__(self, root: Path, split: str = "train") -> None:
        part = _part(root, split)
        self.pairs = _pairs(part)
        listed = _read_classes(root)
        self._classes = listed if listed is not None else _scan(self.pairs)
        self.class_names = self._classes.names
        self.palette = self._classes.palette or default_palette(len(self.class_names))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image, path = self.pairs[index]
        sample = load_pair(image, path)
        labels = sample.labels.copy()
        labels[labels == self._classes.ignore] = IGNORE_LABEL
        wrong = labels[(labels >= len(self.class_names)) & (labels != IGNORE_LABEL)]
        if wrong.size:
            values = ", ".join(str(value) for value in np.unique(wrong)[:5])
            raise DatasetError(
                f"{path} holds label {values}, but there are {len(self.class_names)} classes "
                f"(0 to {len(self.class_names) - 1}; {self._classes.ignore} is ignored)"
            )
        return Sample(sample.image, labels, sample.name)


def default_palette(count: int) -> tuple[Colour, ...]:
    """``count`` colours, well apart: the bits of the class number spread over the channels (Pascal VOC's)."""
    colours = []
    for number in range(1, count + 1):
        red = green = blue = 0
        for place in range(3):
            bits = number >> (3 * place)
            red |= (bits & 1) << (7 - place)
            green |= (bits >> 1 & 1) << (7 - place)
            blue |= (bits >> 2 & 1) << (7 - place)
        colours.append((red, green, blue))
    return tuple(colours)


def _part(root: Path, split: str) -> Path:
    if (root / split / "images").is_dir():
        return root / split
    if (root / "images").is_dir():
        if split in ("train", "all"):
            return root
        raise DatasetError(
            f"{root} is not split, so it has no {split!r}: put those pictures into {root}/{split}/images "
            f"and {root}/{split}/labels, or ask for the split 'all'"
        )
    splits = sorted(path.parent.name for path in root.glob("*/images") if path.is_dir())
    there = f"it has the splits {', '.join(splits)}" if splits else "neither is there"
    raise DatasetError(f"{root} must hold images/ and labels/, or {split}/images and {split}/labels; {there}")


def _pairs(part: Path) -> list[tuple[Path, Path]]:
    """(image, labels) by stem; every image must have labels and the other way round."""
    images = _by_stem(part / "images", IMAGE_SUFFIXES)
    labels = _by_stem(part / "labels", (".png",))
    if not images:
        raise DatasetError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {part / 'images'}")
    for these, those, what in ((images, labels, "labels/{}.png"), (labels, images, "images/{}.*")):
        missing = sorted(these.keys() - those.keys())
        if missing:
            names = ", ".join(what.format(stem) for stem in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise DatasetError(f"in {part} there are {len(missing)} files missing: {names}{more}")
    return [(images[stem], labels[stem]) for stem in sorted(images)]


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise DatasetError(f"{files[path.stem]} and {path.name} have the same stem")
        files[path.stem] = path
    return files


def _scan(pairs: list[tuple[Path, Path]]) -> ClassList:
    """Number the classes up to the highest label that occurs."""
    highest = -1
    for _, path in pairs:
        labels = read_labels(path)
        labels = labels[labels != IGNORE_LABEL]
        highest = max(highest, int(labels.max()) if labels.size else -1)
    if highest < 0:
        raise DatasetError(f"all pixels are void ({IGNORE_LABEL}) in {pairs[0][1].parent}")
    return ClassList(tuple(f"class {index}" for index in range(highest + 1)))


def _read_classes(root: Path) -> ClassList | None:
    for name, parse in (("classes.json", _parse_json), ("classes.txt", _parse_text)):
        path = root / name
        if path.is_file():
            try:
                return parse(path.read_text())
            except (ValueError, TypeError, KeyError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else error
                raise DatasetError(f"{path}: {reason}") from error
    return None


def _parse_json(text: str) -> ClassList:
    content: Any = json.loads(text)
    if isinstance(content, list):
        content = {"classes": content}
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ValueError('expected a list of classes or an object with a list "classes"')
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in content["classes"]]
    if any(not isinstance(entry, dict) for entry in entries):
        raise ValueError('every class must be a name or an object with "name" and "color"')
    colours = [entry.get("color") for entry in entries]
    ignore = content.get("ignore", IGNORE_LABEL)
    if not isinstance(ignore, int):
        raise ValueError(f'"ignore" must be a number, not {ignore!r}')
    return ClassList(tuple(str(entry["name"]) for entry in entries), _palette(colours), ignore)


def _parse_text(text: str) -> ClassList:
    names: list[str] = []
    colours: list[tuple[str, ...] | None] = []
    ignore = IGNORE_LABEL
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if match := re.fullmatch(r"ignore\s*[=:]\s*(\d+)", line):
            ignore = int(match[1])
        elif match := re.fullmatch(r"(.+?)[\s,:]+(\d+)[\s,]+(\d+)[\s,]+(\d+)", line):
            names.append(match[1])
            colours.append(match.groups()[1:])
        else:
            names.append(line)
            colours.append(None)
    return ClassList(tuple(names), _palette(colours), ignore)


def _palette(colours: list[Any]) -> tuple[Colour, ...]:
    """All colours or none of them."""
    if all(colour is None for colour in colours):
        return ()
    palette = []
    for index, colour in enumerate(colours):
        values = [int(value) for value in colour] if colour is not None else []
        if len(values) != 3 or not all(0 <= value <= 255 for value in values):
            raise ValueError(
                f"class {index}: a colour is three numbers from 0 to 255, for every class or none"
            )
        palette.append((values[0], values[1], values[2]))
    return tuple(palette)
