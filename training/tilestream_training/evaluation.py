"""Single-frame accuracy of a model on a labelled data set, through the executor that the server uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from tilestream.engine.dense.executor import DenseExecutor
from tilestream_training.datasets.base import SegmentationDataset
from tilestream_training.metrics import ConfusionMatrix


@dataclass(frozen=True, slots=True)
class StillsReport:
    """``miou``: 0..1, over the classes that occur. ``iou``: of each class, None where it never occurs."""

    frames: int
    miou: float
    iou: dict[str, float | None]


def evaluate_stills(
    model: nn.Module,
    dataset: SegmentationDataset,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> StillsReport:
    """MIoU from one confusion matrix over all frames, each at its own size, void ignored."""
    executor = DenseExecutor(model, device or torch.device("cpu"), dtype)
    matrix = ConfusionMatrix(len(dataset.class_names))
    for index in tqdm(range(len(dataset)), unit="frame", disable=not progress, dynamic_ncols=True):
        sample = dataset[index]
        matrix.add(sample.labels, executor.labels(sample.image))
    iou = [None if value != value else float(value) for value in matrix.iou()]
    return StillsReport(len(dataset), matrix.miou(), dict(zip(dataset.class_names, iou, strict=True)))
