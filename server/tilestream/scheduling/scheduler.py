"""The scheduler: takes decoded frames, hands out plans for the engine.

Who runs: the earliest deadline first, among sessions that have not had more than their share. A session's
service is counted in seconds of the engine's time, as the cost model prices it and as its steps then really
took, divided by its weight. A virtual clock follows the least service among those that wait; who comes back
from a pause starts at the present, and can neither be starved nor catch up on what it did not ask for.

How many: as many as the step's time allows, and at least one. Frames of new sessions have to be computed in
full. While others wait, those get half of the engine's time at most, so that a hundred new cameras do not
stop the ones that are there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import nsmallest

from tilestream.messages import FrameJob, FrameKind, FrameOutcome, StepPlan, UInt8Array
from tilestream.scheduling.cost_model import CostModel, Work
from tilestream.scheduling.overload import FrameLoad, Level, LoadReport, OverloadControl

_WHOLE = 0.97  # from this share of units on, a frame was computed as a whole
_AHEAD = 1.0  # service levels that a session may be ahead of the others' service


@dataclass(frozen=True, slots=True, eq=False)
class ReadyFrame:
    """A decoded frame that waits for its turn. ``image``: uint8 [H, W, 3] at compute size.

    ``budget``: the share (0..1] of block units it may compute at most. ``received``: monotonic seconds.
    ``droppable``: under overload it may be dropped for a later frame of its session.
    """

    session_id: str
    frame_id: int
    image: UInt8Array
    force_key: bool = False
    budget: float = 1.0
    received: float = 0.0
    droppable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_batch``: most frames (each of another session) in one step. ``service_level``: seconds that a
    frame's p99 may take. ``min_budget``: no budget is lowered below this. ``max_step_seconds``: what a step
    may take, as predicted; None for half of the service level.
    """

    max_batch: int = 64
    service_level: float = 0.1
    min_budget: float = 0.1
    max_step_seconds: float | None = None

    @property
    def step_seconds(self) -> float:
        """What a step may take."""
        return self.service_level / 2 if self.max_step_seconds is None else self.max_step_seconds


@dataclass(slots=True)
class _Queue:
    """A session as the scheduler sees it. ``service``: seconds / weight that it had, on the virtual clock.

    ``credit``: key frames' worth of budget saved up, ``phase`` at the beginning. ``whole``: whether its
    frames are computed as a whole or not at all.
    """

    number: int  # breaks ties by age
    weight: float
    group: str
    phase: float
    service: float = 0.0
    fresh: bool = True  # its next frame has to be a key frame
    credit: float = 0.0
    whole: bool = True
    last_done: float = float("-inf")
    frames: deque[ReadyFrame] = field(default_factory=deque)

    def work(self, frame: ReadyFrame, budget: float) -> Work:
        """What its next frame will probably come to."""
        megapixels = frame.image.shape[0] * frame.image.shape[1] / 1e6
        if self.fresh or frame.force_key or budget >= 1.0:
            return Work(self.group, megapixels, True, 1.0)
        if not self.whole:
            return Work(self.group, megapixels, False, budget)
        due = self.credit + budget >= 1.0 - 1e-6
        return Work(self.group, megapixels, due, float(due))


@dataclass(frozen=True, slots=True)
class _Running:
    """A frame in the engine."""

    queue: _Queue
    frame: ReadyFrame
    budget: float
    predicted: float


class Scheduler:
    """Decides what runs in a step. Not thread-safe: the engine loop holds a lock around it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        if self.limits.max_batch < 1:
            raise ValueError(f"max_batch: {self.limits.max_batch}; allowed: at least 1")
        self.costs = CostModel()
        self.control = OverloadControl(self.limits.service_level, self.limits.min_budget)
        self._queues: dict[str, _Queue] = {}
        self._ready: dict[str, _Queue] = {}  # those with frames
        self._running: dict[str, _Running] = {}
        self._begun = 0.0
        self._virtual_now = 0.0
        self._key_credit = 0.0  # seconds; below 0 new sessions have had more than their half
        self._added = 0

    def add(self, session_id: str, weight: float = 1.0, group: str = "", phase: float = 0.0) -> None:
        """Know a session. ``weight``: its share relative to the others, above 0.

        ``group``: sessions whose frames cost the same per pixel, say those of one model. ``phase``: see
        ``SessionSpec``.
        """
        if weight <= 0:
            raise ValueError(f"weight: {weight}; allowed: above 0")
        self._added += 1
        self._queues[session_id] = _Queue(self._added, weight, group, phase, self._virtual_now)

    def remove(self, session_id: str) -> None:
        """Forget a session and its frames. Idempotent."""
        self._queues.pop(session_id, None)
        self._ready.pop(session_id, None)

    def offer(self, frame: ReadyFrame) -> bool:
        """A frame is ready; frames of a session come in order. False if its session is not known."""
        queue = self._queues.get(frame.session_id)
        if queue is None:
            return False
        if not queue.frames:
            queue.service = max(queue.service, self._virtual_now)
            self._ready[frame.session_id] = queue
        queue.frames.append(frame)
        self.control.offered(frame.budget)
        return True

    def withdraw(self, session_id: str, frame_id: int) -> bool:
        """Take a frame back for a later one. False if it is not waiting here (any more)."""
        queue = self._ready.get(session_id)
        if queue is None:
            return False
        kept = deque(frame for frame in queue.frames if frame.frame_id != frame_id)
        found = len(kept) < len(queue.frames)
        queue.frames = kept
        if found:
            self.control.dropped()
        if not kept:
            del self._ready[session_id]
        return found

    def begin_anew(self) -> None:
        """The engine has lost all features: every session's next frame has to be computed in full."""
        for queue in self._queues.values():
            queue.fresh = True

    def waiting(self) -> int:
        """Frames that wait for their turn."""
        return sum(len(queue.frames) for queue in self._ready.values())

    def load(self, now: float) -> LoadReport:
        """What is being done about the load at monotonic seconds ``now``."""
        self.control.update(now)
        return self.control.report()

    def schedule(self, now: float) -> StepPlan:
        """The next step: at most one frame of a session. Empty if none waits. ``now``: monotonic seconds.

        The one before is over: its frames are no longer waited for.
        """
        self.control.update(now)
        self._running.clear()
        self._begun = now
        if not self._ready:
            return StepPlan(())
        shed = self._shed(now) if self.control.level >= Level.SHEDDING else ()
        self._virtual_now = max(self._virtual_now, min(queue.service for queue in self._ready.values()))
        latest = self._virtual_now + _AHEAD * self.limits.service_level

        def urgency(queue: _Queue) -> tuple[bool, float, float, int]:
            return queue.service > latest, queue.frames[0].received, queue.service, queue.number

        chosen = nsmallest(2 * self.limits.max_batch, self._ready.values(), key=urgency)
        self._fill(chosen)
        return StepPlan(tuple(self._job(running) for running in self._running.values()), shed)

    def _fill(self, candidates: list[_Queue]) -> None:
        """Choose, in this order, what fits into a step."""
        left = self.limits.step_seconds - self.costs.fixed
        others = any(not queue.fresh for queue in candidates)
        for queue in candidates:
            if len(self._running) >= self.limits.max_batch:
                break
            if queue.fresh and others and self._key_credit < 0.0:
                continue
            frame = queue.frames[0]
            budget = self.control.budget(frame.budget)
            predicted = sum(self.costs.split(queue.work(frame, budget)))
            if predicted > left and self._running:
                continue
            left -= predicted
            self._key_credit = min(0.0, self._key_credit + (-predicted if queue.fresh else predicted))
            self._start(queue, budget, predicted)

    def _start(self, queue: _Queue, budget: float, predicted: float) -> None:
        frame = queue.frames.popleft()
        if not queue.frames:
            del self._ready[frame.session_id]
        queue.service += predicted / queue.weight
        self._running[frame.session_id] = _Running(queue, frame, budget, predicted)

    @staticmethod
    def _job(running: _Running) -> FrameJob:
        frame = running.frame
        kind = FrameKind.KEY if frame.force_key else FrameKind.PARTIAL
        return FrameJob(frame.session_id, frame.frame_id, frame.image, kind, running.budget)

    def _shed(self, now: float) -> tuple[tuple[str, int], ...]:
        """Drop what waited for longer than the service level and has a later frame behind it."""
        dropped = []
        for session_id, queue in self._ready.items():
            while len(queue.frames) > 1 and queue.frames[0].droppable:
                if now - queue.frames[0].received <= self.limits.service_level:
                    break
                self.control.dropped()
                dropped.append((session_id, queue.frames.popleft().frame_id))
        return tuple(dropped)

    def done(
        self, outcomes: tuple[FrameOutcome, ...], seconds: float, now: float, *, restarted: bool = False
    ) -> None:
        """What the latest plan came to, how long it took, and when it was over (monotonic seconds).

        ``restarted``: the engine had to be started again meanwhile, so that the time tells nothing of the
        frames and is not their sessions' to pay.
        """
        whole_step, loads = [], []
        for outcome in outcomes:
            running = self._running.pop(outcome.session_id, None)
            if running is None:
                continue
            work = self._account(running, outcome)
            if work is not None:
                whole_step.append(work)
                loads.append((running, work))
        self._running.clear()
        if whole_step and not restarted:
            if len(whole_step) == len(outcomes):
                self.costs.learn(whole_step, seconds)
            factor = seconds / max(self.costs.seconds(whole_step), 1e-9)
            self.control.computed([self._load(running, work, factor) for running, work in loads], seconds)
        for running, _ in loads:
            running.queue.last_done = now

    def _account(self, running: _Running, outcome: FrameOutcome) -> Work | None:
        """Note what was computed of a frame. None if it failed: its session starts anew."""
        queue, stats = running.queue, outcome.stats
        if stats is None or not stats.units_total:
            queue.fresh = True
            return None
        share = stats.units_computed / stats.units_total
        whole = stats.key_frame or share >= _WHOLE
        queue.whole = whole or share == 0.0
        if queue.fresh:  # not charged
            queue.fresh, queue.credit = False, queue.phase
        else:
            queue.credit = min(max(queue.credit + running.budget - share, -1.0), 1.0)
        height, width = running.frame.image.shape[:2]
        return Work(queue.group, height * width / 1e6, whole, share)

    def _load(self, running: _Running, work: Work, factor: float) -> FrameLoad:
        """What a frame took of the engine's time; what that is more than expected adds to its service.

        Without what a step costs by itself: when there is more to do, more frames share that.
        """
        queue, received = running.queue, running.frame.received
        frame_seconds, unit_seconds = self.costs.split(work)
        actual = (frame_seconds + unit_seconds) * factor
        queue.service += (actual - running.predicted) / queue.weight
        wait = max(0.0, self._begun - max(received, queue.last_done))
        backlogged = received < queue.last_done
        return FrameLoad(wait, frame_seconds * factor, unit_seconds * factor, backlogged)
