"""Whole frames: the network in full, scores smoothed by those of the whole frame before, labels."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.frame import FrameInFlight
from tilestream.engine.memory.scores import MOST_AVERAGED, SmoothedScores, weight_of
from tilestream.engine.motion.luma import show_the_same, thumbnail_scale
from tilestream.engine.readback import Readback
from tilestream.engine.stages import StageClock


class WholeFrames:
    """Runs them. ``fusion``: see ``ReuseOptions``, 0 for scores as the network gives them."""

    def __init__(self, dense: DenseExecutor, fusion: float, stages: StageClock) -> None:
        self.dense, self._fusion, self._stages = dense, fusion, stages

    def run(self, frames: list[FrameInFlight], readback: Readback) -> dict[str, Tensor]:
        """Compute frames of one size in full; returns the maps [N, C, h, w] that a session keeps, by name."""
        with self._stages.booked(frames, "backbone"):
            kept, scores = self.dense.scores([frame.pixels for frame in frames])
        with self._stages.booked(frames, "head"):
            for index, frame in enumerate(frames):
                if self._fusion and frame.luma is not None:
                    scores[index] = self._smoothed(frame, frame.luma, scores[index])
            wanted = any(frame.state.labels.planes > 1 for frame in frames)
            planes = self.dense.labelled(scores, frames[0].state.size, wanted)
            for index, frame in enumerate(frames):
                labels = frame.state.labels
                if frame.goes_on and frame.state.since_whole >= 2:  # else warped labels tell nothing new
                    frame.warped = labels.plane(0).clone()
                readback.add([plane[index] for plane in planes[: labels.planes]], partial(_take, frame))
        return kept

    def _smoothed(self, frame: FrameInFlight, luma: Tensor, scores: Tensor) -> Tensor:
        """Scores [C, h, w], with what the session thought of the same places before; remembered."""
        state, scale = frame.state, thumbnail_scale(*frame.state.size)
        earlier = state.scores if frame.goes_on and frame.forced is None else None
        if earlier is None or not show_the_same(earlier.luma.numpy(), luma.numpy()):
            state.averaged = 0
        if earlier is not None:
            displacement, weight = state.labels.displacement, weight_of(state.averaged, self._fusion)
            if state.sources is not None:
                displacement = state.sources.since_whole(state.labels)
            scores = earlier.smooth(scores, luma, displacement, state.size, weight).to(scores.dtype)
            if state.averaged:
                luma = earlier.luma  # of the first one, so that what creeps adds up until it shows
        state.averaged = min(state.averaged + 1, MOST_AVERAGED)
        state.scores = SmoothedScores.of(scores, luma, scale, self.dense.score_stride)
        return scores


def _take(frame: FrameInFlight, *planes: Tensor) -> None:
    frame.begin_source()
    frame.state.labels.replace(*planes)
