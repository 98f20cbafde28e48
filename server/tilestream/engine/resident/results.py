"""What a step computed, on its way to the host: label runs, confidence, agreement; one copy, one wait."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tilestream.engine.gates.agreement import told
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.answers import Answers
from tilestream.engine.resident.frames import ResidentFrame
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.runs import RunWriter, read_runs
from tilestream.engine.resident.transfer import fetch_all


class Results:
    """Hands answers to the frames that they are of."""

    def __init__(self, program: TileProgram, ops: Operations) -> None:
        self._program, self._writer = program, RunWriter(ops)

    def fetch(self, answers: list[Answers]) -> None:
        """Wait for the answers of all batches of a step."""
        parts: list[Tensor] = []
        for each in answers:
            parts += [self._writer.write(each.labels), each.changed]
            if each.confidence is not None:
                parts.append(each.confidence)
        fetched = iter(fetch_all(parts)) if parts else iter(())
        for each in answers:
            runs, changed = next(fetched), next(fetched).numpy()
            confidence = None if each.confidence is None else next(fetched).numpy()
            more = self._writer.rewrite(each.labels, runs)
            if more is not None:  # more runs than lately; a second wait, now and then
                [runs] = fetch_all([more])
            self._hand_out(each, runs, changed, confidence)

    def _hand_out(
        self, answers: Answers, runs: Tensor, changed: np.ndarray, confidence: np.ndarray | None
    ) -> None:
        frames, size = answers.frames, answers.frames[0].session.size
        everywhere = np.ones(self._program.bins(*size), dtype=np.bool_)
        for index, (frame, labels) in enumerate(zip(frames, read_runs(runs, len(frames), size), strict=True)):
            frame.labels = labels
            if confidence is not None and frame.spec.confidence:
                frame.confidence = confidence[index].copy()
            if index < len(changed) and frame.age is not None and _tells(frame):
                pixels = changed[index].astype(np.int64)
                where = frame.masks[-1] if frame.partial else everywhere  # the last stage makes the labels
                frame.agreement = told(pixels, where, frame.age, self._program.bin_size, size)


def _tells(frame: ResidentFrame) -> bool:
    """Whether labels were computed where moved ones tell something new."""
    if frame.partial:
        return bool(frame.masks[-1].any())
    return frame.goes_on and frame.session.since_whole >= 2
