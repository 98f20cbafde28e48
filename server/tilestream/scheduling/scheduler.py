"""The scheduler: takes decoded frames, hands out plans for the engine.

Who runs: the earliest deadline first, among sessions that have not had more than their share. A session's
service is counted in seconds of the engine's time, as the cost model prices it and as its steps then really
took, divided by its weight. A virtual clock follows the least service among those that wait; who comes back
from a pause starts at the present, and can neither be starved nor catch up on what it did not ask for.

How many: as many as the step's time allows, and at least one. While overload control lowers budgets, a whole
frame that would make a frame of the step late, itself or another, is deferred: its labels are moved, and a
later one of its session is whole.
Frames of new sessions have to be computed in full. While others wait, those get half of the engine's time at
most, so that a hundred new cameras do not stop the ones that are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nsmallest

from tilestream.messages import FailureKind, Frame, Grant, Outcome, SessionSpec, StepPlan
from tilestream.scheduling.cost_model import CostModel, Work
from tilestream.scheduling.overload import FrameLoad, Level, LoadReport, OverloadControl
from tilestream.scheduling.session_queue import SessionQueue

_AHEAD = 1.0  # service levels that a session may be ahead of the others' service
_ON_TIME = 0.7  # service levels after which a frame has to leave the engine: it is encoded and sent after


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


@dataclass(frozen=True, slots=True)
class _Running:
    """A frame in the engine."""

    queue: SessionQueue
    frame: Frame
    grant: Grant
    predicted: float  # seconds


class Scheduler:
    """Decides what runs in a step. Not thread-safe: the engine loop holds a lock around it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        if self.limits.max_batch < 1:
            raise ValueError(f"max_batch: {self.limits.max_batch}; allowed: at least 1")
        self.costs = CostModel()
        self.control = OverloadControl(self.limits.service_level, self.limits.min_budget)
        self._queues: dict[str, SessionQueue] = {}
        self._ready: dict[str, SessionQueue] = {}  # those with frames
        self._running: list[_Running] = []
        self._begun = 0.0
        self._virtual_now = 0.0
        self._first_frames = 0.0  # seconds; below 0 those of new sessions have had more than their half
        self._added = 0

    def add(self, spec: SessionSpec) -> None:
        """Know a session. Raises ValueError for a weight that is not above 0."""
        if spec.weight <= 0:
            raise ValueError(f"weight: {spec.weight}; allowed: above 0")
        self._added += 1
        self._queues[spec.session_id] = SessionQueue(self._added, spec, self._virtual_now)

    def remove(self, session_id: str) -> None:
        """Forget a session and its frames. Idempotent."""
        self._queues.pop(session_id, None)
        self._ready.pop(session_id, None)

    def offer(self, frame: Frame) -> bool:
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
        found = queue.withdraw(frame_id)
        if found:
            self.control.dropped()
        if not queue.frames:
            del self._ready[session_id]
        return found

    def invalidate(self) -> None:
        """The features of all sessions are gone: the next frame of each has to be computed in full."""
        for queue in self._queues.values():
            queue.credit.restart()

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

        def urgency(queue: SessionQueue) -> tuple[bool, float, float, int]:
            return queue.service > latest, queue.frames[0].submitted, queue.service, queue.number

        chosen = nsmallest(2 * self.limits.max_batch, self._ready.values(), key=urgency)
        self._fill(chosen, now)
        return StepPlan(tuple((running.frame, running.grant) for running in self._running), shed)

    def _fill(self, candidates: list[SessionQueue], now: float) -> None:
        """Choose, in this order, what fits into a step."""
        took, oldest = self.costs.fixed, now
        others = any(not queue.credit.fresh for queue in candidates)
        for queue in candidates:
            if len(self._running) >= self.limits.max_batch:
                break
            if queue.credit.fresh and others and self._first_frames < 0.0:
                continue
            frame = queue.frames[0]
            budget = self.control.budget(frame.budget)
            work, limit = queue.work(frame, budget), 1.0
            predicted = self.costs.frame_seconds(work)
            due = min(oldest, frame.submitted) + _ON_TIME * self.limits.service_level
            late = now + took + predicted > due
            if work.whole and late and self.control.lowers(frame.budget) and queue.may_defer(frame, budget):
                predicted, limit = self.costs.frame_seconds(replace(work, whole=False, share=0.0)), 0.0
            if self._running and took + predicted > self.limits.step_seconds:
                continue
            took, oldest = took + predicted, min(oldest, frame.submitted)
            self._first_frames += -predicted if queue.credit.fresh else predicted
            self._first_frames = min(0.0, self._first_frames)
            self._start(queue, Grant(budget, limit), predicted)

    def _start(self, queue: SessionQueue, grant: Grant, predicted: float) -> None:
        frame = queue.frames.popleft()
        if not queue.frames:
            del self._ready[frame.session_id]
        queue.service += predicted / queue.spec.weight
        self._running.append(_Running(queue, frame, grant, predicted))

    def _shed(self, now: float) -> tuple[Frame, ...]:
        """Drop what waited for longer than the service level and has a later frame behind it."""
        dropped = []
        for queue in self._ready.values():
            while len(queue.frames) > 1 and queue.frames[0].droppable:
                if now - queue.frames[0].submitted <= self.limits.service_level:
                    break
                self.control.dropped()
                dropped.append(queue.frames.popleft())
        return tuple(dropped)

    def done(
        self, outcomes: tuple[Outcome, ...], seconds: float, now: float, *, restarted: bool = False
    ) -> None:
        """What the latest plan came to, frame by frame, how long it took, and when it was over.

        ``now``: monotonic seconds.
        ``restarted``: the engine had to be started again meanwhile, so that the time tells nothing of the
        frames and is not their sessions' to pay.
        """
        whole_step, loads = [], []
        for running, outcome in zip(self._running, outcomes, strict=True):
            if outcome.failure is not None and outcome.failure.kind is FailureKind.INVALID:
                continue  # it was not computed, and its session has what it had before
            work = running.queue.account(running.frame, running.grant, outcome.stats)
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

    def _load(self, running: _Running, work: Work, factor: float) -> FrameLoad:
        """What a frame took of the engine's time; what that is more than expected adds to its service.

        Without what a step costs by itself: when there is more to do, more frames share that.
        """
        queue, submitted = running.queue, running.frame.submitted
        frame_seconds, unit_seconds = self.costs.split(work)
        actual = (frame_seconds + unit_seconds) * factor
        queue.service += (actual - running.predicted) / queue.spec.weight
        wait = max(0.0, self._begun - max(submitted, queue.last_done))
        backlogged = submitted < queue.last_done
        return FrameLoad(wait, frame_seconds * factor, unit_seconds * factor, backlogged)
