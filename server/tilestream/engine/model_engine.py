"""The reuse engine of one model: key frames in full, of all other frames only what the gate keeps."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tilestream.engine.dense.executor import DenseExecutor, DenseResult
from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.frame import (
    FrameAnswer,
    FrameInFlight,
    FrameRequest,
    forced_units,
    frame_answer,
)
from tilestream.engine.gates.gate import BudgetGate, Gate, GateInput
from tilestream.engine.lowering.lower import lower
from tilestream.engine.memory.feature_store import FeatureStore, Pages
from tilestream.engine.memory.scores import MOST_LOOKS, KeyScores, weight_of
from tilestream.engine.memory.state import SessionState
from tilestream.engine.motion.estimators import DisMotion, MotionEstimator, show_the_same, thumbnail
from tilestream.engine.options import FUSION
from tilestream.engine.readback import Readback
from tilestream.engine.tiles.executor import TileExecutor
from tilestream.engine.tiles.partial import PartialStep
from tilestream.engine.tiles.tables import TileSet
from tilestream.messages import UInt8Array


@dataclass(frozen=True, slots=True)
class ReuseOptions:
    """``dense_above``: from this share of kept units on, a frame is computed in full: that is faster then.

    ``store_bytes``: memory for all sessions' features. ``pages_per_tile``: when a session's references are
    spread over more pages than this per tile, its features are copied together. ``fusion``: the weight, 0..1,
    of the scores of the whole frame before in one that the gate wants, unless the gate reuses features.
    """

    bin_size: int = 64
    dense_above: float = 0.75
    store_bytes: int = 1 << 30
    pages_per_tile: float = 2.0
    fusion: float = FUSION


class ReuseEngine:
    """Runs one network for many sessions. Not thread-safe.

    ``module``: any network that :func:`lower` takes; ``mean`` and ``std`` of RGB in 0..1.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        options: ReuseOptions | None = None,
        gate: Gate | None = None,
        motion: MotionEstimator | None = None,
    ) -> None:
        self.options = options or ReuseOptions()
        self.gate = gate or BudgetGate()
        self._keeps = self.gate.reuses_features
        self._fusion = 0.0 if self._keeps else self.options.fusion
        # where bins are chosen, by what motion leaves, it has to be the better one
        for_bins = DisMotion(patch_stride=4, patch_means=True)
        self._motion = motion or (for_bins if self._keeps else DisMotion())
        self.program = lower(module, self.options.bin_size)
        normalize = Normalizer(mean, std, device, dtype)
        self.dense = DenseExecutor(module, device, dtype, self.program, normalize, keep=self._keeps)
        self.store = FeatureStore(self.program, self.options.store_bytes * self._keeps, device, dtype)
        self._partial: PartialStep | None = None
        if self._keeps:
            self._partial = PartialStep(TileExecutor(self.program, device, dtype), self.store, normalize)
        self._sessions: dict[str, SessionState] = {}
        self.evictions = 0  # to make room for others

    def release(self, session_id: str) -> None:
        """Forget a session. Idempotent."""
        self._sessions.pop(session_id, None)
        self.store.release(session_id)

    def session(self, session_id: str) -> SessionState | None:
        """What is remembered of a session; not to be written to."""
        return self._sessions.get(session_id)

    def evict(self, session_id: str) -> None:
        """Free a session's features; its next frame will be a key frame. Idempotent."""
        self.store.release(session_id)
        if session_id in self._sessions:
            self._sessions[session_id].lose_features()

    @torch.inference_mode()
    def step(self, requests: list[FrameRequest]) -> list[FrameAnswer]:
        """Compute at most one frame of each session; answers in the order of the requests."""
        frames = [self._begin(request) for request in requests]
        busy = {frame.request.session_id for frame in frames}
        for frame in frames:
            if not frame.key and not self._prepare(frame, busy):
                frame.key, frame.keep = True, np.ones_like(frame.keep)
                frame.state.luma = thumbnail(frame.request.image, frame.state.scale)
        by_size: dict[tuple[int, ...], list[FrameInFlight]] = defaultdict(list)
        for frame in frames:
            if frame.key:
                by_size[frame.request.image.shape].append(frame)
        readback = Readback()
        for group in by_size.values():
            self._run_key_frames(group, busy, readback)
        partial = [frame for frame in frames if not frame.key and frame.keep.any()]
        if partial and self._partial is not None:
            self._run_partial_frames(self._partial, partial, readback)
        started = time.perf_counter()
        readback.fetch()
        waited = time.perf_counter() - started  # where the device works on its own, for all that it did
        for frame in frames:
            frame.seconds["backbone"] = frame.seconds.get("backbone", 0.0) + waited
        answers = [frame_answer(self.program, frame) for frame in frames]
        for frame, answer in zip(frames, answers, strict=True):
            frame.state.spend(frame.request.budget, 1.0 - answer.stats.block_drop_rate)
            if frame.risk is not None and frame.agreement is not None:
                frame.state.calibration.observe(frame.risk, frame.agreement)
        return answers

    def _begin(self, request: FrameRequest) -> FrameInFlight:
        """Everything that is known before anything is computed: motion, distortion, the gate's decision."""
        state = self._state(request)
        everything = np.ones((len(self.program.units), *state.bins), dtype=np.bool_)
        if not request.retain:
            self.evict(request.session_id)
            return FrameInFlight(request, state, True, everything)
        forced = None if request.keep is None else forced_units(request.keep, everything)
        started = time.perf_counter()
        previous, state.luma = state.luma, thumbnail(request.image, state.scale)
        own = state.luma
        if request.key or not state.ready or previous is None:
            return FrameInFlight(request, state, True, everything)
        motion = self._motion.estimate(previous, state.luma, state.scale, state.flow)
        signals = state.tracker.advance(previous, state.luma, motion)
        state.flow = None if signals.scene_cut else motion.flow
        if motion.still:
            state.luma = previous
        else:
            state.looks = 0
        middle = time.perf_counter()
        state.frames_since_key += 1
        risk = None
        if forced is not None:
            keep, key = forced, False
        else:
            known = GateInput(
                signals,
                request.budget,
                state.frames_since_key,
                len(self.program.units),
                state.credit + request.budget,
                lambda: state.cells(motion),
                motion,
                state.calibration.scale,
                request.limit,
                state.looks,
            )
            decision = self.gate.decide(known)
            keep, key, risk = decision.keep, decision.key_frame, decision.risk
        if key or keep.mean() >= self.options.dense_above or (keep.any() and not self._keeps):
            keep, key = everything, True
        if key:
            state.luma = own  # its labels lie as in this frame, not as in the one that stillness began with
        seconds = {"motion": middle - started, "gate": time.perf_counter() - middle}
        return FrameInFlight(request, state, key, keep, motion, signals, seconds, risk=risk)

    def _state(self, request: FrameRequest) -> SessionState:
        """The session's state; a new one for a new session, another size or another kind of answer."""
        height, width = request.image.shape[:2]
        planes = 1 + request.want_confidence
        state = self._sessions.get(request.session_id)
        if state is None or state.size != (height, width) or state.labels.planes < planes:
            self.release(request.session_id)
            state = SessionState(self.program, height, width, planes, request.phase)
            self._sessions[request.session_id] = state
        state.owner = self.store.touch(request.session_id)
        return state

    def _prepare(self, frame: FrameInFlight, busy: set[str]) -> bool:
        """Move what a session has and take pages for what will be computed. False: there is no room."""
        started = time.perf_counter()
        assert frame.motion is not None
        if frame.keep.any():
            pages = self._allocate(frame.state.owner, int(frame.keep.any(axis=0).sum()), busy)
            if pages is None:
                return False  # as a key frame it needs no room beside its old pages
            frame.state.new_pages = pages
        frame.state.move(frame.motion)
        frame.seconds["tables"] = time.perf_counter() - started
        return True

    def _allocate(self, owner: int, count: int, busy: set[str]) -> dict[int, Pages] | None:
        """Pages at every stride, evicting sessions that are not ``busy``. None: there are not so many."""
        pages: dict[int, Pages] = {}
        for stride, pool in self.store.pools.items():
            found = pool.allocate(owner, count)
            while found is None:
                victim = self.store.least_recent(excluding=busy)
                if victim is None:
                    return None
                self.evict(victim)
                self.evictions += 1
                found = pool.allocate(owner, count)
            pages[stride] = found
        return pages

    def _run_key_frames(self, frames: list[FrameInFlight], busy: set[str], readback: Readback) -> None:
        wanted = any(frame.state.labels.planes > 1 for frame in frames)
        for frame in frames:
            if frame.goes_on and frame.motion is not None:
                frame.state.labels.move(frame.motion.flow, frame.motion.scale)
        images = [frame.request.image for frame in frames]
        result = self.dense.run(images, wanted, lambda scores: self._steadied(frames, scores))
        for index, frame in enumerate(frames):
            started = time.perf_counter()
            labels = frame.state.labels
            frame.moved = _labels_without(frame)
            readback.add([plane[index] for plane in result.planes[: labels.planes]], labels.replace)
            self._keep_key_frame(frame, result, index, busy)
            storing = time.perf_counter() - started
            frame.seconds |= {"backbone": result.backbone_seconds + storing, "head": result.head_seconds}

    def _steadied(self, frames: list[FrameInFlight], scores: Tensor) -> Tensor:
        """Scores [N, C, h, w] of whole frames, with what their sessions thought of the same places before."""
        for index, frame in enumerate(frames):
            state = frame.state
            if not self._fusion or state.luma is None or not frame.request.retain:
                continue
            earlier = state.scores if frame.goes_on and frame.request.keep is None else None
            luma = state.luma
            if earlier is None or not show_the_same(earlier.luma, luma):
                state.looks = 0
            if earlier is not None:
                moved, weight = state.labels.displacement, weight_of(state.looks, self._fusion)
                scores[index] = earlier.fused(scores[index], luma, moved, state.size, weight)
                if state.looks:
                    luma = earlier.luma  # of the first look, so that what creeps adds up until it shows
            state.looks = min(state.looks + 1, MOST_LOOKS)
            state.scores = KeyScores.of(scores[index], luma, state.scale, self.dense.score_stride)
        return scores

    def _keep_key_frame(self, frame: FrameInFlight, result: DenseResult, index: int, busy: set[str]) -> None:
        state = frame.state
        state.frames_since_key = 0
        state.tracker.reset()
        state.ready = frame.request.retain
        if not state.ready or not self._keeps:
            return
        for pool in self.store.pools.values():
            pool.free_all(state.owner)
        pages = self._allocate(state.owner, state.tiles, busy)
        if pages is None:  # no room for this session at all: every frame of it is a key frame
            self.evict(frame.request.session_id)
            return
        state.start(pages, {stride: self.store.zero_row(stride) for stride in pages})
        for node in self.program.kept:
            self.store.write_whole(node, result.kept[node.name][index], pages[node.stride], state.bins)

    def _run_partial_frames(
        self, partial: PartialStep, frames: list[FrameInFlight], readback: Readback
    ) -> None:
        started = time.perf_counter()
        parts = [partial.frame(f.state, f.request.image, f.keep) for f in frames]
        result = partial.run(parts, any(frame.state.labels.planes > 1 for frame in frames))
        for frame in frames:
            frame.moved = frame.state.labels.plane(0)
        readback.add(result.planes, lambda *planes: _place_labels(frames, result.tiles, planes))
        middle = time.perf_counter()
        for frame, part in zip(frames, parts, strict=True):
            frame.state.tracker.computed(part.touched)
            frame.state.collect_garbage(self.store, self.options.pages_per_tile)
        done = time.perf_counter()
        for frame in frames:
            frame.seconds["backbone"] = middle - started
            frame.seconds["tables"] += result.table_seconds + done - middle


def _labels_without(frame: FrameInFlight) -> UInt8Array | None:
    """The labels that a key frame would have had as a partial one that keeps nothing.

    None where they were of no use to anyone: straight after a key frame, or at a scene cut.
    """
    told = frame.goes_on and frame.state.frames_since_key >= 2
    return frame.state.labels.plane(0) if told else None


def _place_labels(frames: list[FrameInFlight], tiles: TileSet, planes: tuple[UInt8Array, ...]) -> None:
    """New labels, and confidence where a session keeps it, into the maps of the sessions they are of."""
    for session, frame in enumerate(frames):
        mine = tiles.session == session
        for plane, values in enumerate(planes[: frame.state.labels.planes]):
            frame.state.labels.place(plane, tiles.y[mine], tiles.x[mine], values[mine])
