"""Accuracy, cost and steadiness of a labelled video when only a share of it is computed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.device import choose_device
from tilestream.engine.gates.gate import Gate
from tilestream.engine.motion.estimators import DisMotion
from tilestream.engine.motion.luma import thumbnail_scale, thumbnails
from tilestream.engine.motion.warp import displace, resized
from tilestream.engine.options import Precision
from tilestream.engine.precision import choose_precision
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.label_runs import label_map
from tilestream.messages import Outcome, UInt8Array
from tilestream.scheduling.rhythm import REFRESH
from tilestream_training.datasets.base import Sample, SegmentationDataset
from tilestream_training.metrics import ConfusionMatrix
from tilestream_training.monitor import Monitor
from tilestream_training.stream_methods import (
    HALF_RESOLUTION,
    LOOK_AHEAD,
    OracleGate,
    frames_ahead,
    fusion_of,
    make_method,
    motion_of,
)

_WARM_UP = 3  # frames whose times do not count
_WHOLE_FRAMES = ("learned", "every_k", "every_k_fused", REFRESH, *LOOK_AHEAD)
_AGES = (0, 1, 2, 3, 5, 9)  # lower ends of the groups of ages


@dataclass(frozen=True, slots=True)
class StreamPoint:
    """One method at one budget. mIoU and shares are 0..1, losses in points of 100, times of the engine.

    ``agreement``: share of pixels labelled as by the dense network. ``temporal_consistency``: share of the
    visible pixels whose label is that of where they were in the previous frame. ``miou_by_age``: by frames
    since the pixel's bin was computed, from that age up to the next. ``speedup_vs_dense``: of the whole clip;
    dense and method took turns frame by frame, as dense and OpenVINO did. ``reuse_agreement`` and
    ``reuse_wrong``: what the engine knows without labels, see :class:`Monitor`; None without reuse.
    ``risk_scale``: what the session's closed loop ended with.
    """

    method: str
    budget: float
    miou: float
    miou_loss: float
    units_kept: float
    macs_ratio: float
    ms: float
    speedup_vs_dense: float
    speedup_vs_openvino_bf16: float | None
    agreement: float
    temporal_consistency: float
    miou_by_age: dict[str, float]
    iou_by_class: dict[str, float | None]
    p50_ms: float
    p99_ms: float
    key_frames: float
    reuse_agreement: float | None
    reuse_wrong: float | None
    risk_scale: float


@dataclass(frozen=True, slots=True)
class DenseScore:
    """Every frame in full. ``openvino_bf16_ms``: the same job there, where it is installed."""

    miou: float
    ms: float
    iou_by_class: dict[str, float | None]
    openvino_bf16_ms: float | None


@dataclass(slots=True)
class _Tally:
    """What a played clip adds up to."""

    whole: ConfusionMatrix
    by_age: dict[int, ConfusionMatrix]
    rows: list[tuple[float, float, float, float]]  # units, MACs, whole frame, agreement
    consistent: list[float]
    seconds: list[float]
    dense_seconds: list[float]
    monitor: Monitor
    risk_scale: float = 1.0


class StreamEvaluation:
    """A labelled clip, held in memory, and the network that is measured on it."""

    def __init__(
        self,
        model: nn.Module,
        name: str,
        dataset: SegmentationDataset,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
        bin_size: int = 64,
        rival: Callable[[nn.Module, UInt8Array], Callable[[], object]] | None = None,
        progress: bool = True,
        phases: int = 1,
        delay: int = 0,
    ) -> None:
        """``name``: of the model, to find its gate. ``rival``: makes the same job in OpenVINO, to time it.

        ``phases``: how often methods of whole frames play the clip, each time with other whole frames. It
        depends much on which they are: at a budget of 0.15, by 0.6 points of mIoU on 101 frames of CamVid.
        ``delay``: frames that labels may wait for with methods that look ahead.
        """
        self._phases, self._delay = phases, delay
        self._model, self._name, self._bin_size = model, name, bin_size
        self._device, self._precision, self._progress = device, precision, progress
        self._samples: list[Sample] = [dataset[index] for index in range(len(dataset))]
        self._classes = tuple(dataset.class_names)
        place = choose_device(device)
        self._dense = DenseExecutor(model, place, choose_precision(precision, place)[1])
        self._dense_labels = [self._dense.labels(sample.image).copy() for sample in self._samples]
        self._sources = self._where_pixels_were()
        self._rival = rival(model, self._samples[0].image) if rival is not None else None
        self.dense = self._score_dense()

    def run(self, method: str, budget: float) -> StreamPoint:
        """Play the clip in order and score every frame. Raises ValueError for an unknown method."""
        tally = self._halved() if method == HALF_RESOLUTION else self._gated(method, budget)
        units, macs, keys, agreement = np.mean(tally.rows, axis=0).tolist()
        skipped = min(_WARM_UP, len(tally.seconds) - 1)
        own, dense = sum(tally.seconds[skipped:]), sum(tally.dense_seconds[skipped:])
        frames = len(tally.seconds[skipped:])
        p50, p99 = np.percentile(tally.seconds[skipped:], (50, 99)) * 1e3
        rival = None if (other := self.dense.openvino_bf16_ms) is None else other / self.dense.ms
        return StreamPoint(
            method,
            budget,
            tally.whole.miou(),
            100 * (self.dense.miou - tally.whole.miou()),
            units,
            macs,
            1e3 * own / frames,
            dense / own,
            None if rival is None else rival * dense / own,
            agreement,
            float(np.mean(tally.consistent)),
            {_age_name(age): tally.by_age[age].miou() for age in sorted(tally.by_age)},
            self._by_class(tally.whole),
            float(p50),
            float(p99),
            keys,
            tally.monitor.agreement,
            tally.monitor.wrong,
            tally.risk_scale,
        )

    def _tally(self) -> _Tally:
        count = len(self._classes)
        return _Tally(
            ConfusionMatrix(count), defaultdict(lambda: ConfusionMatrix(count)), [], [], [], [], Monitor()
        )

    def _gated(self, method: str, budget: float) -> _Tally:
        tally = self._tally()
        for phase in range(self._phases if method in _WHOLE_FRAMES else 1):
            self._play(tally, method, budget, phase / self._phases)
        return tally

    def _play(self, tally: _Tally, method: str, budget: float, phase: float) -> None:
        gate: Gate = make_method(method, self._name, self._bin_size)
        segment = StreamingSegmenter(
            self._model,
            self._bin_size,
            budget,
            self._precision,
            self._device,
            gate=gate,
            motion=motion_of(method),
            fusion=fusion_of(method),
            phase=phase,
            look_ahead=frames_ahead(method, self._delay),
        )
        score = self._scorer(tally)
        for index in self._frames(f"{method} {budget:g}"):
            image = self._samples[index].image
            tally.dense_seconds.append(_timed(self._dense.labels, image))
            if isinstance(gate, OracleGate):
                gate.tell(segment, self._dense_labels[index])
            started = time.perf_counter()
            outcomes = segment.advance(image)
            tally.seconds.append(time.perf_counter() - started)
            for outcome in outcomes:
                score(outcome)
        for outcome in segment.finish():
            score(outcome)
        if segment.state is not None:
            tally.risk_scale = segment.state.calibration.scale

    def _scorer(self, tally: _Tally) -> Callable[[Outcome], None]:
        """Takes the outcomes of a clip in their order and adds them up."""
        key_macs, index = 1, 0
        previous: UInt8Array | None = None

        def score(outcome: Outcome) -> None:
            nonlocal key_macs, index, previous
            stats, bins = outcome.stats, outcome.bins
            if outcome.labels is None or stats is None or bins is None:
                raise RuntimeError(f"frame {index} has no labels: {outcome.failure}")
            labels = label_map(outcome.labels)
            tally.monitor.add(stats, labels.size)
            key_macs = stats.macs if stats.whole else key_macs
            self._add(tally, index, labels, previous)
            agreement = float((labels == self._dense_labels[index]).mean())
            kept = stats.units_computed / stats.units_total
            tally.rows.append((kept, stats.macs / key_macs, float(stats.whole), agreement))
            age = bins.age.repeat(self._bin_size, axis=0).repeat(self._bin_size, axis=1)
            self._add_ages(tally, index, labels, age[: labels.shape[0], : labels.shape[1]])
            previous, index = labels, index + 1

        return score

    def _halved(self) -> _Tally:
        """Every frame at half the resolution in both directions: a quarter of the work."""
        tally = self._tally()
        previous: UInt8Array | None = None
        for index in self._frames(HALF_RESOLUTION):
            image = self._samples[index].image
            size = image.shape[1::-1]
            tally.dense_seconds.append(_timed(self._dense.labels, image))
            started = time.perf_counter()
            small = cv2.resize(image, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA)
            found = self._dense.labels(np.asarray(small, dtype=np.uint8))
            labels = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
            tally.seconds.append(time.perf_counter() - started)
            self._add(tally, index, labels, previous)
            agreement = float((labels == self._dense_labels[index]).mean())
            tally.rows.append((0.25, 0.25, 1.0, agreement))
            self._add_ages(tally, index, labels, np.zeros(labels.shape, dtype=np.int64))
            previous = labels
        return tally

    def _add(self, tally: _Tally, index: int, labels: UInt8Array, previous: UInt8Array | None) -> None:
        tally.whole.add(self._samples[index].labels, labels)
        if previous is not None:
            flow, visible = self._sources[index]
            moved = displace(previous, flow, cv2.INTER_NEAREST)
            tally.consistent.append(float((moved == labels)[visible].mean()))

    def _add_ages(self, tally: _Tally, index: int, labels: UInt8Array, age: np.ndarray) -> None:  # type: ignore[type-arg]
        truth = self._samples[index].labels
        void = np.uint8(255)
        groups = np.searchsorted(_AGES, age, side="right") - 1
        for group in np.unique(groups):
            chosen = np.where(groups == group, truth, void)
            tally.by_age[_AGES[group]].add(np.asarray(chosen, dtype=np.uint8), labels)

    def _where_pixels_were(self) -> list[tuple[np.ndarray, np.ndarray]]:  # type: ignore[type-arg]
        """For each frame the flow to the one before at full resolution, and what was visible there."""
        height, width = self._samples[0].image.shape[:2]
        scale, motion = thumbnail_scale(height, width), DisMotion()
        lumas = [thumbnails([torch.from_numpy(sample.image)], scale) for sample in self._samples]
        found = [(np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.bool_))]
        flow = torch.zeros((*lumas[0].shape, 2))
        for previous, current in pairwise(lumas):
            moved = motion.estimate(previous, current, flow, scale)
            flow = moved.flow
            hidden = resized(moved.occluded.byte(), height, width, cv2.INTER_NEAREST).numpy()[0]
            found.append((moved.at_stride(1, height, width).numpy()[0], hidden == 0))
        return found

    def _score_dense(self) -> DenseScore:
        matrix, seconds, rival = ConfusionMatrix(len(self._classes)), [], []
        for sample, labels in zip(self._samples, self._dense_labels, strict=True):
            matrix.add(sample.labels, labels)
            seconds.append(_timed(self._dense.labels, sample.image))
            if self._rival is not None:
                rival.append(_timed(self._rival))
        openvino = 1e3 * float(np.median(rival)) if rival else None
        return DenseScore(matrix.miou(), 1e3 * float(np.median(seconds)), self._by_class(matrix), openvino)

    def _by_class(self, matrix: ConfusionMatrix) -> dict[str, float | None]:
        values = (None if np.isnan(value) else float(value) for value in matrix.iou())
        return dict(zip(self._classes, values, strict=True))

    def _frames(self, what: str) -> Sequence[int]:
        frames = range(len(self._samples))
        return tqdm(frames, desc=what, unit="frame", disable=not self._progress, dynamic_ncols=True)


def _timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def _age_name(age: int) -> str:
    index = _AGES.index(age)
    if index + 1 == len(_AGES):
        return f"{age}+"
    last = _AGES[index + 1] - 1
    return str(age) if last == age else f"{age}-{last}"
