"""Data sets by name: ``KIND:WHERE``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tilestream_training.datasets.base import DatasetError, SegmentationDataset
from tilestream_training.datasets.camvid import CamVid
from tilestream_training.datasets.cityscapes import Cityscapes
from tilestream_training.datasets.folder import Folder
from tilestream_training.datasets.unlabelled import open_unlabelled


def _synthetic(where: str, split: str, cache: Path | None) -> SegmentationDataset:
    # Imported when asked for: the generator is large, and only this kind of data needs it.
    from tilestream_training.datasets.synthetic import SyntheticStills

    match = re.fullmatch(r"(\d+)(?::(\d+)x(\d+))?", where)
    if match is None:
        raise DatasetError(f"synthetic:{where} is not synthetic:COUNT or synthetic:COUNT:WIDTHxHEIGHT")
    size = (int(match[2]), int(match[3])) if match[2] is not None else (480, 360)
    return SyntheticStills(int(match[1]), split, size, cache)


KINDS: dict[str, tuple[str, Callable[[str, str, Path | None], SegmentationDataset]]] = {
    "camvid": ("camvid:PATH", lambda where, split, _: CamVid(_folder(where), split)),
    "cityscapes": ("cityscapes:PATH", lambda where, split, _: Cityscapes(_folder(where), split)),
    "cityscapes11": (
        "cityscapes11:PATH",
        lambda where, split, _: Cityscapes(_folder(where), split, classes="camvid11"),
    ),
    "folder": ("folder:PATH", lambda where, split, _: Folder(_folder(where), split)),
    "synthetic": ("synthetic:COUNT[:WIDTHxHEIGHT]", _synthetic),
    "unlabelled": ("unlabelled:PATH[:WIDTH]", lambda where, _split, _: open_unlabelled(where)),
}


def open_dataset(specification: str, split: str = "train", cache: Path | None = None) -> SegmentationDataset:
    """A data set by its specification, such as ``camvid:PATH`` or ``synthetic:400``.

    ``cache``: a folder where data that takes time to make may be kept. Raises :class:`DatasetError`, which
    lists the kinds there are, for an unknown one, and says what is wrong where the data is not as it
    should be.
    """
    kind, colon, where = specification.partition(":")
    forms = ", ".join(form for form, _ in KINDS.values())
    if kind not in KINDS:
        raise DatasetError(f"unknown kind of data {kind!r} in {specification!r}; there are {forms}")
    if not colon or not where:
        raise DatasetError(f"{specification!r} is incomplete: expected {KINDS[kind][0]}")
    dataset = KINDS[kind][1](where, split, cache)
    if len(dataset) == 0:
        raise DatasetError(f"{specification!r} has no pictures in its {split!r} split")
    return dataset


def _folder(where: str) -> Path:
    path = Path(where).expanduser()
    if not path.is_dir():
        raise DatasetError(f"{path} is not a folder")
    return path
