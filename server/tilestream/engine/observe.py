"""What is known of frames before anything of them is computed: what moved, and what that leaves."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tilestream.engine.frame import FrameBatch, FrameInFlight
from tilestream.engine.gates.cells import cell_features
from tilestream.engine.gates.doubt import find_doubt
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.motion.distortion import DistortionTracker
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.motion.luma import thumbnail_scale, thumbnail_shape, thumbnails
from tilestream.engine.motion.warp import stacked

_SIZES = 64  # of frames that are prepared for at a time; a client may send as many as it likes


class Observer:
    """Compares frames with those before them, for all sessions of an engine."""

    def __init__(self, program: TileProgram, motion: MotionEstimator) -> None:
        self._program, self._motion = program, motion
        self.tracker = lru_cache(maxsize=_SIZES)(self._make_tracker)

    def _make_tracker(self, size: tuple[int, int]) -> DistortionTracker:
        """What carries distortion along, for frames of a size (height, width)."""
        scale = thumbnail_scale(*size)
        return DistortionTracker(
            self._program.bin_size, self._program.bins(*size), scale, thumbnail_shape(*size)
        )

    def observe(self, frames: list[FrameInFlight]) -> FrameBatch | None:
        """Look at frames of one size; a batch of those that have one before them, None without any."""
        retained = [frame for frame in frames if frame.retained]
        if not retained:
            return None
        scale = thumbnail_scale(*retained[0].state.size)
        luma = thumbnails([frame.pixels for frame in retained], scale)
        for index, frame in enumerate(retained):
            frame.luma = frame.reference = _own(luma, index)
        compared = [frame for frame in retained if frame.follows]
        return self._compare(compared, scale) if compared else None

    def _compare(self, frames: list[FrameInFlight], scale: int) -> FrameBatch:
        states = [frame.state for frame in frames]
        current = stacked([frame.luma for frame in frames if frame.luma is not None])
        previous = stacked([state.luma for state in states if state.luma is not None])
        flows = [state.flow for state in states]
        shape = (*current.shape[1:], 2)
        expected = stacked([torch.zeros(shape) if flow is None else flow for flow in flows])
        motion = self._motion.estimate(previous, current, expected, scale)
        tracker = self.tracker(states[0].size)
        found = tracker.advance([state.distortion for state in states], previous, current, motion)
        cuts, still = found.signals.scene_cut.tolist(), motion.is_still()
        for index, (frame, state) in enumerate(zip(frames, states, strict=True)):
            one = slice(index, index + 1)
            frame.motion, frame.signals = motion.of(one), found.signals.of(one)
            state.distortion = _own(found.state, index)
            frame.cut = cuts[index]
            state.flow = None if frame.cut else _own(motion.flow, index)
            state.since_whole += 1
            state.since_source += 1
            if still[index]:
                frame.reference = state.luma
            else:
                state.averaged = 0
        return FrameBatch(frames, motion, found)

    def cells(self, batch: FrameBatch) -> Tensor:
        """What a learned gate looks at, see ``cell_features``; before labels have followed the motion."""
        states = [frame.state for frame in batch.frames]
        classes = self._program.nodes[self._program.output].channels
        luma = stacked([frame.reference for frame in batch.frames if frame.reference is not None])
        labels = [state.labels.plane(0) for state in states]
        step = self.tracker(states[0].size).cell
        return cell_features(labels, classes, batch.distortion.fine, step, batch.motion, luma)

    def doubt(self, batch: FrameBatch) -> Tensor:
        """Float32 [N, bins_h, bins_w], see ``gates.doubt``; remembered pixel by pixel."""
        bins = self._program.bins(*batch.frames[0].state.size)
        found = []
        for frame in batch.frames:
            state = frame.state
            if state.sources is None or frame.luma is None:
                raise RuntimeError("a gate asks for doubt, but the engine keeps no sources for it")
            self.follow(frame)
            frame.doubt = find_doubt(state.sources, state.labels, frame.luma, batch.motion.scale)
            found.append(torch.from_numpy(frame.doubt.per_bin(self._program.bin_size, bins)))
        return stacked(found)

    def follow(self, frame: FrameInFlight) -> None:
        """The labels of its session follow the motion; once, however often it is asked for."""
        if frame.motion is not None and not frame.followed:
            frame.followed = True
            frame.state.labels.move(frame.motion.flow[0], frame.motion.scale)

    def remember(self, frame: FrameInFlight) -> None:
        """Once it is decided: its session's labels follow the motion, and so does what is compared with."""
        state = frame.state
        if frame.goes_on or not frame.whole:
            self.follow(frame)
        # Labels of a whole frame lie as in it, not as in the one with which stillness began.
        state.luma = frame.luma if frame.whole else frame.reference


def _own(batch: Tensor, index: int) -> Tensor:
    """One frame's part of a batch, to be kept: a copy, or all of the batch would be kept with it."""
    return batch[0] if len(batch) == 1 else batch[index].clone()
