"""The engine of one model: whole frames in full, of all other frames only what the gate keeps."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tilestream.engine.arrays import Mask
from tilestream.engine.decide import Decider, compute, compute_all
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.feature_reuse import FeatureReuse
from tilestream.engine.frame import FrameInFlight, by_size, forced_units, outcome_of
from tilestream.engine.gates.agreement import compare
from tilestream.engine.gates.gate import Gate, looks_ahead, refreshes
from tilestream.engine.gates.registry import motion_for_bins, motion_for_labels
from tilestream.engine.look_ahead import LookAhead, Refreshed
from tilestream.engine.lowering.lower import lower
from tilestream.engine.memory.gap import Gap
from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.memory.sources import Sources
from tilestream.engine.memory.state import SessionState
from tilestream.engine.memory.usage import MemoryUsage
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.observe import Observer
from tilestream.engine.options import DENSE_ABOVE, FUSION
from tilestream.engine.readback import Readback
from tilestream.engine.refresh_between import RefreshBetween
from tilestream.engine.stages import StageClock
from tilestream.engine.tiles.tables import TileSet
from tilestream.engine.whole_frames import WholeFrames
from tilestream.messages import Frame, Grant, Outcome, SessionSpec


@dataclass(frozen=True, slots=True)
class ReuseOptions:
    """``dense_above``: from this share of kept units on, a frame is computed in full: that is faster then.

    ``store_bytes``: memory for all sessions' features. ``pages_per_tile``: see ``FeatureReuse``. ``fusion``:
    the weight, 0..1, of the scores of the whole frame before in one that the gate wants, unless the gate
    reuses features.
    """

    bin_size: int = 64
    dense_above: float = DENSE_ABOVE
    store_bytes: int = 1 << 30
    pages_per_tile: float = 2.0
    fusion: float = FUSION


class ModelEngine:
    """Runs one network for many sessions. Not thread-safe.

    ``module``: any network that :func:`lower` takes; ``mean`` and ``std`` of RGB in 0..1. ``motion``: by
    default what suits the gate. ``clock``: seconds, for the stages' times.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        mean: Sequence[float],
        std: Sequence[float],
        gate: Gate,
        options: ReuseOptions | None = None,
        motion: MotionEstimator | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.options = options or ReuseOptions()
        self.gate, self._stages = gate, StageClock(clock)
        reuses, fused = gate.reuses_features, refreshes(gate) or not gate.reuses_features
        self.program = lower(module, self.options.bin_size)
        normalize = Normalizer(mean, std, device, dtype)
        self.dense = DenseExecutor(module, device, dtype, self.program, normalize, keep=reuses)
        self.features: FeatureReuse | None = None
        if reuses:
            self.features = FeatureReuse(
                self.program,
                self.options.store_bytes,
                normalize,
                self._lose_features,
                self.options.pages_per_tile,
                clock,
            )
        motion = motion or (motion_for_labels() if fused else motion_for_bins())
        self._observer = Observer(self.program, motion)
        self._decider = Decider(self.program, gate, self._observer, self.options.dense_above)
        self._whole = WholeFrames(self.dense, self.options.fusion if fused else 0.0, self._stages)
        self._ahead = LookAhead(self.options.bin_size, refreshes(gate))
        self._between = None if self.features is None else RefreshBetween(self.program, self.features)
        self.tiles = 0
        """Bins in which anything was computed in the latest step."""
        self._specs: dict[str, SessionSpec] = {}
        self._sessions: OrderedDict[str, SessionState] = OrderedDict()  # by last use, the oldest first

    # Sessions

    @property
    def looks_ahead(self) -> bool:
        """Whether labels may wait for later frames: where all that is computed between whole ones can."""
        return looks_ahead(self.gate)

    def open(self, spec: SessionSpec) -> None:
        """Know a session, or know it otherwise: if it asks for more than before it begins anew."""
        state = self._sessions.get(spec.session_id)
        if state is not None and state.labels.planes < _planes(spec):
            self._forget(spec.session_id)
        self._specs[spec.session_id] = spec

    def release(self, session_id: str) -> None:
        """Forget a session. Idempotent."""
        self._specs.pop(session_id, None)
        self._forget(session_id)

    def session(self, session_id: str) -> SessionState | None:
        """What is remembered of a session; not to be written to."""
        return self._sessions.get(session_id)

    def by_last_use(self) -> list[str]:
        """The sessions of which anything is remembered, the longest unused first."""
        return list(self._sessions)

    def usage(self) -> MemoryUsage:
        """What of the features' memory is in use."""
        return MemoryUsage() if self.features is None else self.features.usage()

    def evict(self, session_id: str) -> None:
        """Free what could be reused of a session; its next frame will be a whole one. Idempotent."""
        if self.features is not None:
            self.features.release(session_id)
        if session_id in self._sessions:
            self._sessions[session_id].invalidate()

    def _lose_features(self, session_id: str) -> None:
        """There is no room for a session's features: with refreshes it goes on with whole frames only."""
        if self.features is None or not refreshes(self.gate):
            self.evict(session_id)
            return
        self.features.release(session_id)
        if session_id in self._sessions:
            self._sessions[session_id].features = None

    def restart(self, session_id: str) -> None:
        """Forget all of a session but its facts: what is remembered may be half-written."""
        self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)
        if self.features is not None:
            self.features.release(session_id)

    # One step

    @torch.inference_mode()
    def step(
        self, work: Sequence[tuple[Frame, Grant]], keep: Mapping[str, bool | Mask] | None = None
    ) -> list[Outcome]:
        """Compute at most one frame of each session; outcomes in the order of ``work``, then those of frames
        of earlier steps that have waited for these.

        Their sessions have to be open. ``keep``: by session, forces what is computed: all, nothing, bool
        [bins_h, bins_w] or [units, bins_h, bins_w]. Where the gate reuses no features, anything but nothing
        means all.
        """
        forced, busy = keep or {}, {frame.session_id for frame, _ in work}
        late = [outcome for frame, _ in work for outcome in self._of_another_size(frame)]
        frames = [self._enter(frame, grant, forced.get(frame.session_id)) for frame, grant in work]
        for same_size in by_size(frames):
            self._choose(same_size, busy)
        with self._stages.booked([each for each in frames if each.motion is not None], "motion"):
            for each in frames:
                self._observer.remember(each)
        late += self._run(frames, busy)
        with self._stages.booked(frames, "head"):  # where labels were warped they are looked up here
            for each in frames:
                self._settle(each)
            outcomes = [self._answer(each) for each in frames]
            late += [outcome for each in frames for outcome in self._ahead.overdue(each)]
        self.tiles = sum(int(each.touched.sum()) for each in frames)
        return outcomes + late

    def finish(self, session_id: str, frame_id: int) -> list[Outcome]:
        """Outcomes of a session's frames up to that one that wait for later ones, as if there were none."""
        state = self._sessions.get(session_id)
        return [] if state is None else self._ahead.due(state, frame_id)

    def _of_another_size(self, frame: Frame) -> list[Outcome]:
        """Outcomes of what waits in a session whose frames are of another size from this one on."""
        state, pixels = self._sessions.get(frame.session_id), frame.picture.pixels
        if state is None or pixels is None or state.size == pixels.shape[:2]:
            return []
        return self.finish(frame.session_id, frame.frame_id)

    def _answer(self, frame: FrameInFlight) -> Outcome:
        """A frame's outcome, its labels in it unless they wait for those of a later one."""
        if not self._ahead.waits(frame):
            return outcome_of(frame, self.program)
        outcome = outcome_of(frame, self.program, labelled=False)
        self._ahead.hold(frame, outcome)
        return outcome

    def _refresh_between(self, wanted: Sequence[Refreshed], busy: set[str]) -> None:
        if self._between is not None:
            self._between.run(wanted, busy)

    def _enter(self, frame: Frame, grant: Grant, keep: bool | Mask | None) -> FrameInFlight:
        """The frame with its session's state; a new one for a new session or another size."""
        image, spec = frame.picture.pixels, self._specs[frame.session_id]
        if image is None:
            raise ValueError("the engine takes pixels")
        height, width = image.shape[:2]
        state = self._sessions.get(frame.session_id)
        if state is None or state.size != (height, width):
            self._forget(frame.session_id)
            labels = LabelMap(height, width, self.program.bin_size, _planes(spec))
            distortion = self._observer.tracker((height, width)).start()
            sources = Sources() if refreshes(self.gate) else None
            gap = Gap() if spec.max_delay > 0 and self.looks_ahead else None
            state = SessionState(labels, (height, width), distortion, spec.phase, sources, gap)
            self._sessions[frame.session_id] = state
        self._sessions.move_to_end(frame.session_id)
        if state.gap is not None:
            state.gap.came(frame.captured)
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        entered = FrameInFlight(frame, grant, spec, state, pixels)
        if keep is not None:
            units = (len(self.program.units), *self.program.bins(height, width))
            entered.forced = forced_units(keep, units)
        if not entered.retained:
            self.evict(frame.session_id)
        elif self.features is not None:
            self.features.enter(entered)
        return entered

    def _choose(self, frames: list[FrameInFlight], busy: set[str]) -> None:
        """What is computed of frames of one size."""
        with self._stages.booked([frame for frame in frames if frame.retained], "motion"):
            batch = self._observer.observe(frames)
        if batch is not None:
            with self._stages.booked(batch.frames, "gate"):
                self._decider.decide(batch)
        for frame in frames:
            if frame.motion is None:
                compute_all(frame, self.program)
        if self.features is not None:
            self._prepare(self.features, [frame for frame in frames if not frame.whole], busy)

    def _prepare(self, features: FeatureReuse, partial: list[FrameInFlight], busy: set[str]) -> None:
        with self._stages.booked(partial, "tables"):
            for frame in partial:
                if features.prepare(frame, busy):
                    continue
                if refreshes(self.gate) and frame.forced is None:
                    frame.state.refreshed += 1  # as if it had been: another would find no room, either
                    compute(frame, self.program, np.zeros_like(frame.keep))
                else:
                    compute_all(frame, self.program)

    def _run(self, frames: list[FrameInFlight], busy: set[str]) -> list[Outcome]:
        """Compute what is kept, and wait for the device once; outcomes of frames that waited for these."""
        readback = Readback()
        closing: list[_Start] = []
        whole = [frame for frame in frames if frame.whole]
        partial = [frame for frame in frames if not frame.whole and frame.keep.any()]
        for same_size in by_size(whole):
            kept = self._whole.run(same_size, readback)
            for index, frame in enumerate(same_size):
                if frame.state.gap is None:
                    self._start_from(frame, kept, index, busy)
                else:  # what waits for it may yet need the features of the one before
                    closing.append((frame, kept, index))
        if partial and self.features is not None:
            self._run_partial(self.features, partial, readback)
        with self._stages.booked(whole + partial, "backbone"):
            readback.fetch()
        sources = [each for each in frames if each.keep.any()]
        with self._stages.booked(sources, "head"):
            late = self._ahead.close(sources, lambda wanted: self._refresh_between(wanted, busy))
        for frame, kept, index in closing:
            self._start_from(frame, kept, index, busy)
        return late

    def _start_from(self, frame: FrameInFlight, kept: dict[str, Tensor], index: int, busy: set[str]) -> None:
        """Later frames of its session are reckoned from this whole one."""
        state = frame.state
        state.since_whole = 0
        state.distortion = self._observer.tracker(state.size).start()
        state.ready = frame.retained
        if self.features is None or not frame.retained:
            return
        with self._stages.booked([frame], "tables"):
            if not self.features.keep_whole(frame, kept, index, busy):
                self._lose_features(frame.frame.session_id)

    def _run_partial(self, features: FeatureReuse, frames: list[FrameInFlight], readback: Readback) -> None:
        started = self._stages.now()
        result = features.run(frames)
        seconds = self._stages.now() - started
        self._stages.book(frames, "tables", result.table_seconds)
        self._stages.book(frames, "backbone", seconds - result.table_seconds)
        with self._stages.booked(frames, "tables"):
            for frame in frames:
                frame.warped = frame.state.labels.plane(0).clone()
                self._observer.tracker(frame.state.size).computed(frame.state.distortion, frame.touched)
            features.collect_garbage(frames)
        readback.add(result.planes, lambda *planes: _place_labels(frames, result.tiles, planes))

    def _settle(self, frame: FrameInFlight) -> None:
        """The frame is computed: what it told of warped labels, and what its session may spend now."""
        state = frame.state
        if frame.warped is not None and frame.signals is not None:
            labels, age = state.labels.plane(0).numpy(), frame.signals.age.numpy()[0]
            made = frame.masks[-1]  # the last stage makes the labels
            frame.agreement = compare(frame.warped.numpy(), labels, made, age, self.program.bin_size)
        state.credit.charge(frame.grant.budget, float(np.count_nonzero(frame.keep) / frame.keep.size))
        if frame.risk is not None and frame.agreement is not None:
            state.calibration.observe(frame.risk.numpy(), frame.agreement)


_Start = tuple[FrameInFlight, dict[str, Tensor], int]
"""A whole frame, the maps that its batch keeps, and which of that it is."""


def _planes(spec: SessionSpec) -> int:
    return 1 + spec.confidence


def _place_labels(frames: list[FrameInFlight], tiles: TileSet, planes: tuple[Tensor, ...]) -> None:
    """New labels, and confidence where a session keeps it, into the maps of the sessions they are of."""
    for session, frame in enumerate(frames):
        frame.begin_source()
        mine = tiles.session == session
        believed = None if frame.doubt is None else frame.doubt.believed(frame.state.size)
        for plane, values in enumerate(planes[: frame.state.labels.planes]):
            frame.state.labels.place(plane, tiles.y[mine], tiles.x[mine], values.numpy()[mine], believed)
