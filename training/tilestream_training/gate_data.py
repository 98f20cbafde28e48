"""Examples for the learned gate from unlabelled video: what it would see, and what it should have said.

A video is played through the engine under a restless policy, so that all ages and mixtures of old and new
bins occur. The teacher is the same network computing every frame in full.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.device import choose_device, choose_precision
from tilestream.engine.gates.cells import CELL
from tilestream.engine.gates.gate import GateDecision, GateInput, score
from tilestream.engine.motion.estimators import continued
from tilestream.engine.options import Precision
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.messages import Float32Array, UInt8Array


@dataclass(frozen=True, slots=True)
class GateExample:
    """One frame. ``cells``: float32 [channels, h, w]. ``wrong``: float32 [h, w], share of a cell's pixels.

    ``wrong`` compares the labels that the frame would get if nothing was computed with the teacher's.
    """

    cells: Float32Array
    wrong: Float32Array


class RestlessGate:
    """Computes nothing, some bins, or everything, at random; keeps what it was shown last."""

    reuses_features = True

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.seen: GateInput | None = None
        self.cells: Float32Array | None = None
        self._interval = 4

    def decide(self, frame: GateInput) -> GateDecision:
        """A key frame every 2 to 16 frames; in between mostly nothing, sometimes up to half of the bins."""
        self.seen, self.cells = frame, None if frame.cells is None else frame.cells()
        bins = frame.signals.age.shape
        key = frame.signals.scene_cut or frame.frames_since_key >= self._interval
        keep = np.full(bins, key)
        if key:
            self._interval = int(np.exp(self._random.uniform(np.log(2), np.log(16))))
        elif self._random.random() < 0.35:
            wanted = score(frame.signals) + self._random.normal(0, 6, bins)
            share = self._random.uniform(0.05, 0.5)
            keep = wanted >= np.quantile(wanted, 1 - share)
        return GateDecision(bool(keep.all()), np.broadcast_to(keep, (frame.units, *bins)))


def collect(
    network: nn.Module,
    frames: Iterable[UInt8Array],
    seed: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
) -> Iterator[GateExample]:
    """Examples from one video, uint8 [H, W, 3] RGB frames of one size; key frames and cuts give none."""
    gate = RestlessGate(seed)
    place = choose_device(device)
    _, dtype = choose_precision(precision, place)
    segment = StreamingSegmenter(network, precision=precision, device=device, gate=gate)
    teacher = DenseExecutor(network, place, dtype)
    for image in frames:
        gate.seen = None
        before = None if segment.state is None else copy.deepcopy(segment.state.labels)
        segment(image)
        seen = gate.seen
        cells = gate.cells
        if before is None or seen is None or cells is None or seen.motion is None:
            continue
        if not seen.signals.scene_cut:
            before.move(seen.motion.flow, seen.motion.scale)
            wrong = before.plane(0) != teacher.labels(image)
            yield GateExample(cells, _shares(wrong, cells.shape[1:]))


def _shares(wrong: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> Float32Array:
    rows, columns = shape
    padded = continued(wrong.astype(np.float32), rows * CELL, columns * CELL)
    return np.asarray(cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)
