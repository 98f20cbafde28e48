"""Labelled pictures behind one interface: CamVid, Cityscapes, your own folder, the synthetic street."""

from tilestream_training.datasets.base import (
    IGNORE_LABEL,
    DatasetError,
    Sample,
    SegmentationDataset,
)
from tilestream_training.datasets.registry import KINDS, open_dataset

__all__ = ["IGNORE_LABEL", "KINDS", "DatasetError", "Sample", "SegmentationDataset", "open_dataset"]
