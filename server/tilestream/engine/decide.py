"""What is computed of frames: what their gate or their caller wants, rounded up to what is worth it."""

from __future__ import annotations

import numpy as np

from tilestream.engine.arrays import Mask
from tilestream.engine.frame import FrameBatch, FrameInFlight
from tilestream.engine.gates.gate import Gate, GateInput
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.observe import Observer
from tilestream.engine.tiles.masks import stage_masks


class Decider:
    """Asks a gate. ``dense_above``: see ``ReuseOptions``."""

    def __init__(self, program: TileProgram, gate: Gate, observer: Observer, dense_above: float) -> None:
        self._program, self._gate, self._observer = program, gate, observer
        self._dense_above = dense_above

    def decide(self, batch: FrameBatch) -> None:
        """Decide about frames of one size that have one before them, each with those of its session."""
        asked = [index for index, frame in enumerate(batch.frames) if frame.forced is None]
        if asked:
            self._ask(batch.of(asked))
        for frame in batch.frames:
            self._settle(frame)

    def _ask(self, batch: FrameBatch) -> None:
        decision = self._gate.decide(self._question(batch))
        for index, frame in enumerate(batch.frames):
            frame.keep = decision.keep[index].numpy()
            frame.risk = None if decision.risk is None else decision.risk[index]

    def _question(self, batch: FrameBatch) -> GateInput:
        return GateInput.of(
            batch.distortion.signals,
            len(self._program.units),
            [(frame.grant, frame.state) for frame in batch.frames],
            cells=lambda which: self._observer.cells(batch.of(which)),
            doubt=lambda which: self._observer.doubt(batch.of(which)),
            motion=batch.motion,
        )

    def _settle(self, frame: FrameInFlight) -> None:
        keep = frame.keep if frame.forced is None else frame.forced
        much = in_full(keep, frame.forced is not None, self._dense_above)
        if much or (keep.any() and not self._gate.reuses_features):
            compute_all(frame, self._program)
        else:
            compute(frame, self._program, keep)


def in_full(keep: Mask, forced: bool, dense_above: float) -> bool:
    """Whether so much is kept of a frame, bool [units, bins_h, bins_w], that it is computed in full.

    ``forced``: by the caller; all that is forced may still be run on tiles.
    """
    return bool(keep.all() and not forced) or bool(keep.mean() >= dense_above)


def compute(frame: FrameInFlight, program: TileProgram, keep: Mask) -> None:
    """It is a partial frame: what ``keep``, bool [units, bins_h, bins_w], names is computed."""
    frame.keep, frame.masks = keep, stage_masks(program, keep)


def compute_all(frame: FrameInFlight, program: TileProgram) -> None:
    """It is a whole frame."""
    everything = np.ones((len(program.units), *program.bins(*frame.state.size)), dtype=np.bool_)
    compute(frame, program, everything)
    frame.whole = True
