"""Accuracy of a video's frames when most of them are not computed in full."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from torch import nn
from tqdm import tqdm

from tilestream.engine.gate import Gate
from tilestream.engine.motion import MotionEstimator
from tilestream.engine.options import Precision
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.training.datasets.base import SegmentationDataset
from tilestream.training.metrics import ConfusionMatrix


@dataclass(frozen=True, slots=True)
class StreamReport:
    """``miou``: 0..1 over all frames, void ignored. ``by_distance``: the same by frames since a key frame.

    ``units``, ``macs``: mean share of the block units and of the multiply-accumulates of a key frame that
    were run. ``key_frames``: share of frames computed in full. ``distortion``: mean, luma steps.
    """

    frames: int
    miou: float
    by_distance: dict[int, float]
    units: float
    macs: float
    key_frames: float
    distortion: float


def evaluate_stream(
    model: nn.Module,
    dataset: SegmentationDataset,
    gate: Gate,
    budget: float,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    bin_size: int = 64,
    motion: MotionEstimator | None = None,
    progress: bool = True,
) -> StreamReport:
    """Play the data set's frames in order as one video and score every one.

    Above 1 / 1.3 of the units a frame is computed in full, as it is in the server.
    """
    segment = StreamingSegmenter(model, bin_size, budget, precision, device, gate=gate, motion=motion)
    whole = ConfusionMatrix(len(dataset.class_names))
    parts: dict[int, ConfusionMatrix] = defaultdict(lambda: ConfusionMatrix(len(dataset.class_names)))
    stats = []
    distance, key_macs = 0, 0
    for index in tqdm(range(len(dataset)), unit="frame", disable=not progress, dynamic_ncols=True):
        sample = dataset[index]
        labels, frame = segment(sample.image)
        distance = 0 if frame.key_frame else distance + 1
        key_macs = frame.macs if frame.key_frame else key_macs
        whole.add(sample.labels, labels)
        parts[distance].add(sample.labels, labels)
        stats.append(
            (
                frame.units_computed / frame.units_total,
                frame.macs / key_macs,
                frame.key_frame,
                frame.distortion,
            )
        )
    units, macs, keys, distortion = np.mean(stats, axis=0).tolist()
    by_distance = {key: parts[key].miou() for key in sorted(parts)}
    return StreamReport(len(dataset), whole.miou(), by_distance, units, macs, keys, distortion)
