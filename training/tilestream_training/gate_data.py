"""Examples for the learned gate from unlabelled video: what it would see, and what it should have said.

A video is played through the engine under a restless policy, so that all ages and mixtures of old and new
bins occur. The teacher is the same network computing every frame in full.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.device import choose_device
from tilestream.engine.gates.cells import CELL
from tilestream.engine.gates.gate import GateDecision, GateInput
from tilestream.engine.gates.rules import score
from tilestream.engine.motion.warp import continued, resized
from tilestream.engine.options import Precision
from tilestream.engine.precision import choose_precision
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
        self.cells: Float32Array | None = None  # of the one frame
        self._interval = 4

    def decide(self, frames: GateInput) -> GateDecision:
        """One frame at a time: a whole one every 2 to 16 frames; in between mostly nothing, sometimes up to
        half of the bins.
        """
        self.seen, self.cells = frames, None if frames.cells is None else frames.cells([0])[0].numpy()
        whole = bool(frames.signals.scene_cut) or int(frames.since_whole) >= self._interval
        keep = np.full(frames.bins, whole)
        if whole:
            self._interval = int(np.exp(self._random.uniform(np.log(2), np.log(16))))
        elif self._random.random() < 0.35:
            wanted = score(frames.signals).numpy()[0] + self._random.normal(0, 6, frames.bins)
            share = self._random.uniform(0.05, 0.5)
            keep = wanted >= np.quantile(wanted, 1 - share)
        return GateDecision.of_bins(frames, torch.from_numpy(keep)[None])


def collect(
    network: nn.Module,
    frames: Iterable[UInt8Array],
    seed: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
) -> Iterator[GateExample]:
    """Examples from one video, uint8 [H, W, 3] RGB frames of one size; whole frames and cuts give none."""
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
            before.move(seen.motion.flow[0], seen.motion.scale)
            wrong = before.plane(0) != torch.from_numpy(teacher.labels(image))
            yield GateExample(cells, _shares(wrong, cells.shape[1:]))


def _shares(wrong: Tensor, shape: tuple[int, ...]) -> Float32Array:
    rows, columns = shape
    padded = continued(wrong.float()[None], rows * CELL, columns * CELL)
    return np.asarray(resized(padded, rows, columns).numpy()[0], dtype=np.float32)
