"""What a training step sees: decided by seed and step, shares respected, rare classes found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import IGNORE_LABEL, Sample, SegmentationDataset
from tilestream_training.sampling import draw_batch, load_source, pixel_counts

OPTIONS = AugmentOptions(crop=(16, 24), jitter=0.0)


class Plain(SegmentationDataset):
    """Stills of one class each."""

    def __init__(self, *labels: int) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        label = self.labels[index]
        labels = np.full((40, 60), label, np.uint8)
        return Sample(np.full((40, 60, 3), min(label * 10, 255), np.uint8), labels, f"still {index}")


def test_shapes_and_types() -> None:
    images, labels = draw_batch([load_source(Plain(0, 1), 1.0, 3)], 3, OPTIONS, seed=0, step=0)
    assert images.shape == (3, 3, 16, 24) and images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.shape == (3, 16, 24) and labels.dtype == torch.int64


def test_seed_and_step_decide() -> None:
    sources = [load_source(Plain(0, 1, 2), 0.7, 3), load_source(Plain(1), 0.3, 3)]
    first = draw_batch(sources, 4, OPTIONS, seed=5, step=17)
    draw_batch(sources, 4, OPTIONS, seed=5, step=18)
    again = draw_batch(sources, 4, OPTIONS, seed=5, step=17)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    others = [draw_batch(sources, 4, OPTIONS, seed=s, step=t) for s, t in ((5, 18), (6, 17))]
    assert not any(torch.equal(first[1], other[1]) for other in others)


def test_holders_need_some_pixels() -> None:
    class Speck(Plain):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.labels.reshape(-1)[:49] = 2
            return sample

    assert load_source(Speck(0, 1), 1.0, 3).holders == ((0,), (1,), ())


def test_sources_are_drawn_by_share() -> None:
    sources = [load_source(Plain(0), 3.0, 2), load_source(Plain(1), 1.0, 2)]
    labels = draw_batch(sources, 400, AugmentOptions(crop=(8, 8), jitter=0.0), 0, 0)[1]
    share = float((labels.amin(dim=(1, 2)) == 0).float().mean())
    assert 0.65 < share < 0.85


@pytest.mark.parametrize(("focus_share", "low", "high"), [(0.0, 0.0, 0.1), (1.0, 0.35, 0.65)])
def test_focus_draws_rare_classes_as_often_as_common_ones(focus_share, low, high) -> None:
    source = load_source(Plain(*[0] * 49, 1), 1.0, 2)
    options = AugmentOptions(crop=(8, 8), jitter=0.0)
    labels = draw_batch([source], 200, options, 0, 0, focus_share)[1]
    rare = float((labels == 1).any(dim=2).any(dim=1).float().mean())
    assert low <= rare <= high


def test_pixel_counts_weigh_sources_by_share_and_leave_void_out() -> None:
    sources = [load_source(Plain(0, IGNORE_LABEL), 1.0, 2), load_source(Plain(1, 1, 1), 3.0, 2)]
    counts = pixel_counts(sources, 2)
    assert counts.dtype == torch.int64
    assert float(counts[1]) / float(counts[0]) == pytest.approx(3.0)
