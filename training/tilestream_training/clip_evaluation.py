"""Videos without labels: how far reuse strays from computing every frame in full, and what it saves."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.device import choose_device
from tilestream.engine.gates.gate import Gate
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.options import Precision
from tilestream.engine.precision import choose_precision
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.label_runs import label_map
from tilestream.messages import Outcome, UInt8Array
from tilestream_training.monitor import Monitor

_WARM_UP = 3  # frames whose times do not count


@dataclass(frozen=True, slots=True)
class ClipPoint:
    """One method at one budget on one video; shares are 0..1, times of the engine.

    ``agreement``: share of pixels labelled as by the dense network, mean over the frames, and 5th percentile.
    ``speedup_vs_dense``: dense and method took turns frame by frame. For the rest see ``StreamPoint``.
    """

    clip: str
    method: str
    budget: float
    frames: int
    agreement: float
    agreement_p5: float
    units_kept: float
    macs_ratio: float
    dense_ms: float
    ms: float
    p50_ms: float
    p99_ms: float
    speedup_vs_dense: float
    key_frames: float
    reuse_agreement: float | None
    reuse_wrong: float | None
    risk_scale: float


def play(
    model: nn.Module,
    gate: Gate,
    frames: Sequence[UInt8Array],
    names: tuple[str, str],
    budget: float,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    bin_size: int = 64,
    fusion: float = 0.0,
    motion: MotionEstimator | None = None,
    look_ahead: int = 0,
) -> ClipPoint:
    """Play frames, uint8 [H, W, 3] RGB of one size. ``names``: of the clip and of the method.

    ``fusion``: see ``ReuseOptions``; ``motion``: by default what suits the gate; ``look_ahead``: frames that
    labels may wait for.
    """
    place = choose_device(device)
    dense = DenseExecutor(model, place, choose_precision(precision, place)[1])
    segment = StreamingSegmenter(
        model,
        bin_size,
        budget,
        precision,
        device,
        gate=gate,
        fusion=fusion,
        motion=motion,
        look_ahead=look_ahead,
    )
    monitor, key_macs = Monitor(), 1
    rows, times, wanted = [], [], deque[UInt8Array]()

    def score(outcome: Outcome) -> None:
        nonlocal key_macs
        labels, stats = outcome.labels, outcome.stats
        if labels is None or stats is None:
            raise RuntimeError(f"frame {outcome.frame_id} has no labels: {outcome.failure}")
        key_macs = stats.macs if stats.whole else key_macs
        monitor.add(stats, label_map(labels).size)
        kept = stats.units_computed / stats.units_total
        agrees = (label_map(labels) == wanted.popleft()).mean()
        rows.append((agrees, kept, stats.macs / key_macs, stats.whole))

    for image in frames:
        started = time.perf_counter()
        wanted.append(dense.labels(image).copy())
        middle = time.perf_counter()
        outcomes = segment.advance(image)
        times.append((middle - started, time.perf_counter() - middle))
        for outcome in outcomes:
            score(outcome)
    for outcome in segment.finish():
        score(outcome)
    agreement, units, macs, keys = np.mean(rows, axis=0).tolist()
    spent = 1e3 * np.array(times[min(_WARM_UP, len(times) - 1) :])
    dense_ms, own_ms = spent.mean(axis=0).tolist()
    p50, p99 = np.percentile(spent[:, 1], (50, 99)).tolist()
    return ClipPoint(
        *names,
        budget,
        len(rows),
        agreement,
        float(np.percentile([row[0] for row in rows], 5)),
        units,
        macs,
        dense_ms,
        own_ms,
        p50,
        p99,
        dense_ms / own_ms,
        keys,
        monitor.agreement,
        monitor.wrong,
        1.0 if segment.state is None else segment.state.calibration.scale,
    )
