"""The engine of one model on a GPU."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tilestream.engine.accounts import ComputedUnits
from tilestream.engine.arrays import Mask
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.frame import forced_units
from tilestream.engine.gates.gate import Gate
from tilestream.engine.gates.learned import LearnedGate
from tilestream.engine.lowering.lower import lower
from tilestream.engine.memory.usage import MemoryUsage
from tilestream.engine.motion.luma import thumbnail_shape
from tilestream.engine.options import DENSE_ABOVE, FUSION
from tilestream.engine.resident.accounts import Accounts
from tilestream.engine.resident.captured import GraphPool
from tilestream.engine.resident.compute import FrameComputer
from tilestream.engine.resident.decide import Decider
from tilestream.engine.resident.frames import Batch, PixelBuffers, ResidentFrame, ResidentSession
from tilestream.engine.resident.network import BatchedNetwork
from tilestream.engine.resident.observe import Observation, Observer
from tilestream.engine.resident.operations import operations_for
from tilestream.engine.resident.partial.pages import frame_bytes
from tilestream.engine.resident.partial.reference_maps import reference_bytes
from tilestream.engine.resident.partial.shared import ResidentProgram
from tilestream.engine.resident.partial_frames import PartialFrames
from tilestream.engine.resident.results import Results
from tilestream.engine.resident.runs import MOST_PIXELS
from tilestream.engine.resident.search import FOR_BINS, FOR_LABELS
from tilestream.engine.resident.slots import Size, SlotLayout, Slots
from tilestream.engine.resident.transfer import fetch_all
from tilestream.engine.stages import StageClock
from tilestream.messages import Failure, Frame, Grant, InvalidReason, Outcome, Picture, SessionSpec
from tilestream.scheduling.credit import Credit

Decode = Callable[[Sequence[Picture]], list[Tensor | Failure]]
"""Pixels uint8 [3, H, W] on the device of every picture, or why it cannot be used."""

_COMMON_SIZE = (720, 1280)
_SMALL_SIZE = (360, 640)  # slots take a larger share of smaller frames
_WARM_UP_FRAMES = 4


class ResidentEngine:
    """Runs one network for many sessions. Not thread-safe.

    As ``ModelEngine``, with the sessions' state in slots on the device, at most ``store_bytes`` of it, and
    the work of a step in batched operations. Where the ``gate`` reuses features these take most of that
    memory, and scores are not fused. ``decode``: makes pixels on the ``device`` of what frames bring.
    ``dense_above``, ``fusion``: see ``ReuseOptions``. Frames of more than 2^24 pixels are refused.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        mean: Sequence[float],
        std: Sequence[float],
        gate: Gate,
        decode: Decode,
        *,
        bin_size: int = 64,
        store_bytes: int = 1 << 30,
        dense_above: float = DENSE_ABOVE,
        fusion: float = FUSION,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.gate, self._stages, self._decode = gate, StageClock(clock), decode
        reuses = gate.reuses_features
        self._fusion = 0.0 if reuses else fusion
        self.program = lower(module, bin_size)
        self.dense = DenseExecutor(module, device, dtype, self.program, keep=reuses)
        ops = operations_for(device)
        pool = GraphPool(device)
        network = BatchedNetwork(self.dense, ops, mean, std, pool)
        judge, search = gate if isinstance(gate, LearnedGate) else None, FOR_BINS if reuses else FOR_LABELS
        self._observer = Observer(self.program, ops, device, judge, pool, search)
        self._pixels = PixelBuffers()
        self._decider = Decider(self.program, gate, dense_above)
        self._partial: PartialFrames | None = None
        slot_bytes = store_bytes
        if reuses:
            slot_bytes = self._slot_bytes(store_bytes)
            shared = ResidentProgram(self.program, mean, std, store_bytes - slot_bytes, device, dtype)
            self._partial = PartialFrames(shared, ops, self._observer.tracker)
        self._computer = FrameComputer(self.program, self.dense, network, ops, self._fusion, self._partial)
        self._results = Results(self.program, ops)
        self._accounts = Accounts(self.program)
        features = None if self._partial is None else self._partial.features
        self.slots = Slots(self._layout, device, slot_bytes, self.evict, features)
        self.tiles = 0
        """Bins in which anything was computed in the latest step."""
        self._specs: dict[str, SessionSpec] = {}
        self._sessions: OrderedDict[str, ResidentSession] = OrderedDict()  # by last use, the oldest first

    def _layout(self, size: Size) -> SlotLayout:
        rows, columns = self.program.padded(*size)
        stride = self.dense.score_stride
        classes = self.program.nodes[self.program.output].channels if self._fusion else 0
        return SlotLayout(
            size,
            thumbnail_shape(*size),
            self._observer.tracker(size).cells,
            (classes, rows // stride, columns // stride),
            self.dense.dtype,
            reference_bytes(self.program, size) if self.gate.reuses_features else 0,
        )

    def _slot_bytes(self, store_bytes: int) -> int:
        """What of the memory is for slots: about as many as sessions whose features fit into the rest."""
        slot = self._layout(_SMALL_SIZE).row_bytes
        return store_bytes * slot // (slot + frame_bytes(self.program, _SMALL_SIZE, self.dense.dtype))

    def warm_up(self) -> None:
        """Compile what is compiled at first use, before a camera waits for it."""
        height, width = _COMMON_SIZE
        spec = SessionSpec("warm-up", "", retain=True)
        self.open(spec)
        half = np.indices(self.program.bins(height, width)).sum(axis=0) % 2 > 0
        for index in range(_WARM_UP_FRAMES):
            pixels = np.full((height, width, 3), 16 * index, dtype=np.uint8)
            picture = Picture(width, height, (width, height), pixels)
            keep = {spec.session_id: half} if index == 1 else {}
            self.step([(Frame(spec.session_id, index, picture), Grant(budget=0.5))], keep)
        table = self.slots.table(_COMMON_SIZE)
        if self._partial is not None and table is not None:
            self._partial.warm(table)
        self.release(spec.session_id)

    # Sessions

    def open(self, spec: SessionSpec) -> None:
        """Know a session, or know it otherwise: if it asks for more than before it begins anew."""
        session = self._sessions.get(spec.session_id)
        if session is not None and spec.confidence and not session.confident:
            self.restart(spec.session_id)
        self._specs[spec.session_id] = spec

    def release(self, session_id: str) -> None:
        """Forget a session. Idempotent."""
        self._specs.pop(session_id, None)
        self.restart(session_id)

    def by_last_use(self) -> list[str]:
        """The sessions of which anything is remembered, the longest unused first."""
        return list(self._sessions)

    def usage(self) -> MemoryUsage:
        """What of the memory for slots and features is in use; a slot counts as a page."""
        slots = self.slots.usage()
        return slots if self._partial is None else slots + self._partial.usage()

    def evict(self, session_id: str) -> None:
        """Free what could be reused of a session; its next frame will be a whole one. Idempotent."""
        self.slots.release(session_id)
        if session_id in self._sessions:
            self._sessions[session_id].invalidate()

    def restart(self, session_id: str) -> None:
        """Forget all of a session but its facts: what is remembered may be half-written."""
        self._sessions.pop(session_id, None)
        self.slots.release(session_id)

    # One step

    @torch.inference_mode()
    def step(
        self, work: Sequence[tuple[Frame, Grant]], keep: Mapping[str, bool | Mask] | None = None
    ) -> list[Outcome]:
        """Compute at most one frame of each session; outcomes in the order of ``work``.

        Their sessions have to be open. ``keep``: by session, forces what is computed, see ``ModelEngine``.
        """
        outcomes: list[Outcome | None] = [None] * len(work)
        frames = self._enter(work, keep or {}, outcomes)
        entered = [frame for frame in frames if frame is not None]
        batches = self._pixels.batches(entered, self.slots)
        self._observe(batches)
        self._answer(batches)
        self.tiles = 0
        for index, frame in enumerate(frames):
            if frame is not None:
                computed = self._accounts.computed(frame)
                self.tiles += int(np.count_nonzero(computed.bins))
                self._settle(frame, computed)
                outcomes[index] = self._accounts.outcome(frame, computed)
        return [outcome for outcome in outcomes if outcome is not None]

    def _enter(
        self,
        work: Sequence[tuple[Frame, Grant]],
        keep: Mapping[str, bool | Mask],
        outcomes: list[Outcome | None],
    ) -> list[ResidentFrame | None]:
        """The frames with pixels and their sessions' state; None, and an outcome, for what cannot be used."""
        busy = {frame.session_id for frame, _ in work}
        if self._partial is not None:
            self._partial.begin_step()
        started = self._stages.now()
        found = [_fit(pixels) for pixels in self._decode([frame.picture for frame, _ in work])]
        frames: list[ResidentFrame | None] = []
        for index, ((frame, grant), pixels) in enumerate(zip(work, found, strict=True)):
            if isinstance(pixels, Failure):
                outcomes[index] = Outcome(frame.session_id, frame.frame_id, failure=pixels)
                frames.append(None)
                continue
            frames.append(self._enter_one(frame, grant, pixels, keep.get(frame.session_id), busy))
        self._stages.book(
            [frame for frame in frames if frame is not None], "decode", self._stages.now() - started
        )
        return frames

    def _enter_one(
        self, frame: Frame, grant: Grant, pixels: Tensor, keep: bool | Mask | None, busy: set[str]
    ) -> ResidentFrame:
        name, size = frame.session_id, (pixels.shape[1], pixels.shape[2])
        spec, session = self._specs[name], self._sessions.get(name)
        if session is None or session.size != size:
            self.restart(name)
            session = self._sessions[name] = ResidentSession(
                size, Credit(spec.phase), confident=spec.confidence
            )
        self._sessions.move_to_end(name)
        entered = ResidentFrame(frame, grant, spec, session, pixels)
        if keep is not None:
            entered.forced = forced_units(keep, (len(self.program.units), *self.program.bins(*size)))
        if grant.budget < 1.0 or spec.retain:
            entered.slot = self.slots.acquire(name, size, busy)
        if entered.slot is None:
            self.evict(name)
        elif not self._reusable(size, entered.slot):
            session.invalidate()
        entered.compared = session.ready and not frame.whole
        return entered

    def _reusable(self, size: Size, slot: int) -> bool:
        """Whether all that the gate's frames reuse is there; features may have had to give way to others."""
        table = self.slots.table(size)
        return self._partial is None or table is None or self._partial.enter(table, slot)

    def _observe(self, batches: list[Batch]) -> None:
        """What is computed of the frames: what they are like is found on the device, and then waited for."""
        seen: list[tuple[Batch, Observation]] = []
        for batch in batches:
            with self._stages.booked(batch.frames, "motion"):
                observation = self._observer.observe(batch)
            if observation is not None:
                seen.append((batch, observation))
        with self._stages.booked([frame for batch, _ in seen for frame in batch.frames], "motion"):
            parts = [observation.parts() for _, observation in seen]
            fetched = iter(fetch_all([tensor for part in parts for tensor in part]))
        for (batch, _), part in zip(seen, parts, strict=True):
            with self._stages.booked(batch.frames[: batch.compared], "gate"):
                self._decider.decide(
                    batch.frames[: batch.compared], Observation.of([next(fetched) for _ in part])
                )
        for batch in batches:
            for frame in batch.frames[batch.compared :]:
                frame.whole = True

    def _answer(self, batches: list[Batch]) -> None:
        """Labels of all frames: launched on the device for all batches, and then waited for."""
        frames = [frame for batch in batches for frame in batch.frames]
        with self._stages.booked(frames, "backbone"):
            answers = [self._computer.run(batch) for batch in batches]
        with self._stages.booked(frames, "head"):
            self._results.fetch(answers)

    def _settle(self, frame: ResidentFrame, computed: ComputedUnits) -> None:
        """The frame is computed: what its session may spend now, and what its gate learns from it."""
        session = frame.session
        if frame.whole:
            session.since_whole, session.ready = 0, frame.slot is not None
        session.credit.charge(frame.grant.budget, computed.share)
        if frame.risk is not None and frame.agreement is not None:
            session.calibration.observe(frame.risk, frame.agreement)


def _fit(pixels: Tensor | Failure) -> Tensor | Failure:
    """A frame, uint8 [3, H, W], or why the engine cannot take it."""
    if isinstance(pixels, Failure) or pixels.shape[1] * pixels.shape[2] <= MOST_PIXELS:
        return pixels
    size = f"{pixels.shape[2]} x {pixels.shape[1]} pixels"
    return Failure.invalid(InvalidReason.TOO_MANY_PIXELS, f"{size}, at most {MOST_PIXELS} are computed")
