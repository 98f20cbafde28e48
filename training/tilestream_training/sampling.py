"""What a run learns from: data sets in memory, each with its share of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tilestream_training.datasets.base import Sample, SegmentationDataset


@dataclass(frozen=True, slots=True)
class Source:
    """A data set, held in memory, and the share of samples to draw from it."""

    samples: tuple[Sample, ...]
    share: float
    holders: tuple[tuple[int, ...], ...]  # for each class, the samples in which it occurs


def load_source(dataset: SegmentationDataset, share: float, num_classes: int) -> Source:
    """Read a whole data set into memory and note which classes each still has."""
    samples = tuple(dataset[index] for index in range(len(dataset)))
    holders: list[list[int]] = [[] for _ in range(num_classes)]
    for index, sample in enumerate(samples):
        counts = np.bincount(sample.labels.reshape(-1), minlength=256)
        for label in range(num_classes):
            if counts[label] >= 50:
                holders[label].append(index)
    return Source(samples, share, tuple(tuple(h) for h in holders))


def pixel_counts(sources: Sequence[Source], num_classes: int) -> Tensor:
    """int64 [C]: labelled pixels of each class over all sources, weighted by their shares."""
    total = np.zeros(num_classes, dtype=np.float64)
    for source in sources:
        counts = sum(np.bincount(s.labels.reshape(-1), minlength=256)[:num_classes] for s in source.samples)
        total += np.asarray(counts) / max(1, np.sum(counts)) * source.share
    return torch.from_numpy((total * 1e9).astype(np.int64))
