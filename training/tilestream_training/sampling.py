"""Which pictures a training step sees: a mixture of data sets, drawn from the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tilestream_training.augment import AugmentOptions, augment
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


def draw_batch(
    sources: Sequence[Source],
    batch: int,
    options: AugmentOptions,
    seed: int,
    step: int,
    focus_share: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """uint8 images [N, 3, h, w] (channels last) and int64 labels [N, h, w].

    Depends on (seed, step) only: a run that is resumed sees what it would have seen. In a share
    ``focus_share`` of the samples, a class is drawn first and the crop placed on it.
    """
    rng = np.random.default_rng((seed, step))
    shares = np.array([source.share for source in sources])
    images, labels = [], []
    for _ in range(batch):
        source = sources[int(rng.choice(len(sources), p=shares / shares.sum()))]
        focus, index = None, int(rng.integers(len(source.samples)))
        if rng.random() < focus_share:
            present = [c for c, holders in enumerate(source.holders) if holders]
            if present:
                focus = present[int(rng.integers(len(present)))]
                index = source.holders[focus][int(rng.integers(len(source.holders[focus])))]
        image, label = augment(source.samples[index], options, rng, focus)
        images.append(torch.from_numpy(image))
        labels.append(torch.from_numpy(label))
    return torch.stack(images).permute(0, 3, 1, 2), torch.stack(labels).long()
