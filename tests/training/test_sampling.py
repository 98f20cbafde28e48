"""Data sets in memory: which stills have a class, how many pixels of each there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tilestream_training.datasets.base import IGNORE_LABEL, Sample, SegmentationDataset
from tilestream_training.sampling import load_source, pixel_counts


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


def test_holders_need_some_pixels() -> None:
    class Speck(Plain):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.labels.reshape(-1)[:49] = 2
            return sample

    assert load_source(Speck(0, 1), 1.0, 3).holders == ((0,), (1,), ())


def test_pixel_counts_weigh_sources_by_share_and_leave_void_out() -> None:
    sources = [load_source(Plain(0, IGNORE_LABEL), 1.0, 2), load_source(Plain(1, 1, 1), 3.0, 2)]
    counts = pixel_counts(sources, 2)
    assert counts.dtype == torch.int64
    assert float(counts[1]) / float(counts[0]) == pytest.approx(3.0)
