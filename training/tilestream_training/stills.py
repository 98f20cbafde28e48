"""All stills of a run in memory, on the device that trains, so that views are cut from them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream_training.datasets.base import IGNORE_LABEL, Sample, UInt8Array
from tilestream_training.sampling import Source

SOFT_STRIDE = 4
"""Pixels of a still per value of its soft labels, each way: what the networks' own scores have."""

SMOOTH_BELOW = 0.85
"""Views zoomed out further are cut from stills without the detail that would alias."""

_SMOOTHING = 0.7  # standard deviation in pixels: a zoom of 0.65, the usual least, needs no more
_PLACES = 64  # pixels that are remembered of each class of a still, to put views on
_FEWEST = 20  # pixels of a class that are worth a view


@dataclass(frozen=True, slots=True)
class Stills:
    """``images``: uint8 [N, 2, 3, H, W] RGB, as they are and without fine detail, stills smaller than the
    largest with their edge repeated. ``labels``: uint8 [N, H, W]. ``soft``: float16
    [N, C, H / 4, W / 4], 0 beyond a still. On the host: ``sizes`` int [N, 2], height and width of each;
    ``places`` int [N, C, 64, 2], rows and columns of pixels of each class; ``has`` bool [N, C];
    ``ranges``: of each source, its first still and the one behind its last; ``shares``: their odds.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None
    sizes: npt.NDArray[np.int64]
    places: npt.NDArray[np.int32]
    has: npt.NDArray[np.bool_]
    ranges: tuple[tuple[int, int], ...]
    shares: npt.NDArray[np.float64]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the largest."""
        return int(self.images.shape[3]), int(self.images.shape[4])

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.has.shape[1])


def hold_stills(
    sources: Sequence[Source],
    num_classes: int,
    device: torch.device,
    soft: Sequence[npt.NDArray[np.float16]] | None = None,
) -> Stills:
    """Put the stills of all sources on the device.

    ``soft``: of every still in turn, probabilities [C, ceil(h / 4), ceil(w / 4)].
    """
    samples = [sample for source in sources for sample in source.samples]
    sizes = np.array([sample.labels.shape for sample in samples])
    height, width = (-(-int(side) // SOFT_STRIDE) * SOFT_STRIDE for side in sizes.max(axis=0))
    images = torch.empty((len(samples), 2, 3, height, width), dtype=torch.uint8)
    labels = torch.full((len(samples), height, width), IGNORE_LABEL, dtype=torch.uint8)
    maps = None
    if soft is not None:
        maps = torch.zeros((len(samples), num_classes, height // SOFT_STRIDE, width // SOFT_STRIDE)).half()
    places, has = _places(samples, num_classes)
    for index, (sample, (h, w)) in enumerate(zip(samples, sizes, strict=True)):
        blurred = np.asarray(cv2.GaussianBlur(sample.image, (0, 0), _SMOOTHING), dtype=np.uint8)
        for kind, image in enumerate((sample.image, blurred)):
            images[index, kind] = torch.from_numpy(_extended(image, height, width)).permute(2, 0, 1)
        labels[index, :h, :w] = torch.from_numpy(sample.labels)
        if maps is not None and soft is not None:
            known = torch.from_numpy(soft[index])
            maps[index, :, : known.shape[1], : known.shape[2]] = known
    ends = np.cumsum([0, *(len(source.samples) for source in sources)])
    shares = np.array([source.share for source in sources])
    return Stills(
        images.to(device),
        labels.to(device),
        None if maps is None else maps.to(device),
        sizes,
        places,
        has,
        tuple((int(a), int(b)) for a, b in pairwise(ends)),
        shares / shares.sum(),
    )


def _extended(image: UInt8Array, height: int, width: int) -> UInt8Array:
    h, w = image.shape[:2]
    return np.pad(image, ((0, height - h), (0, width - w), (0, 0)), mode="edge")


def _places(
    samples: Sequence[Sample], num_classes: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    places = np.zeros((len(samples), num_classes, _PLACES, 2), dtype=np.int32)
    has = np.zeros((len(samples), num_classes), dtype=np.bool_)
    for index, sample in enumerate(samples):
        flat = sample.labels.reshape(-1)
        for label in np.flatnonzero(np.bincount(flat, minlength=256)[:num_classes] >= _FEWEST):
            chosen = rng.choice(np.flatnonzero(flat == label), _PLACES)
            places[index, label] = np.stack(np.divmod(chosen, sample.labels.shape[1]), axis=1)
            has[index, label] = True
    return places, has
