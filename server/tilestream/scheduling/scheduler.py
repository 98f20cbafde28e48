"""The scheduler: takes decoded frames, hands out plans for the engine.

Who runs: the earliest deadline first, among sessions that have not had more than their share. A session's
service is counted in seconds of the engine's time, as the cost model prices it and as its steps then really
took, divided by its weight. A virtual clock follows the least service among those that wait; who comes back
from a pause starts at the present, and can neither be starved nor catch up on what it did not ask for.

Shares are nested: owners (identities) share the time, and the sessions of an owner what that gets. An owner
that asks for less than its share is served before those that ask for more: it comes back from a pause with
some of its share saved up.

How many: as many as the step's time allows, and at least one. While overload control lowers budgets, a whole
frame that would make a frame of the step late, itself or another, is deferred: its labels are moved, and a
later one of its session is whole.
Frames of new sessions have to be computed in full. While others wait, those get half of the engine's time at
most, so that a hundred new cameras do not stop the ones that are there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest

from tilestream.messages import FailureKind, Frame, Grant, Outcome, SessionSpec, StepPlan
from tilestream.scheduling.cost_model import CostModel, Work
from tilestream.scheduling.held_frames import HeldFrames, Key
from tilestream.scheduling.load_window import FrameLoad
from tilestream.scheduling.overload import Level, LoadReport, OverloadControl
from tilestream.scheduling.session_queue import SessionQueue, Share

_AHEAD = 1.0  # service levels that a session may be ahead of the others' service
_OWNER_AHEAD = 0.5  # service levels that an owner may be ahead of the others'
_OWNER_SAVED = 1.0  # service levels that an owner keeps of its share over a pause
_SINGLE = 16  # steps of one frame, a power of two, after which two are tried
_MUCH = 0.2  # of a step's time: what it costs beside its frames
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
    slack: float  # seconds that it could have waited beside others


@dataclass(frozen=True, slots=True)
class _Computed:
    """A frame that the engine has computed. ``anew``: compared with none. ``used``: see ``FrameLoad``."""

    running: _Running
    work: Work
    anew: bool
    used: float | None


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
        self._shares: dict[str, Share] = {}  # by owner
        self.held = HeldFrames()
        self._running: list[_Running] = []
        self._full = False  # frames wait for want of the step's time
        self._single = 0  # steps of one frame though others waited, since one had more
        self._begun = 0.0
        self._virtual_now = 0.0
        self._first_frames = 0.0  # seconds; below 0 those of new sessions have had more than their half
        self._added = 0

    def add(self, spec: SessionSpec) -> None:
        """Know a session. Raises ValueError for a weight that is not above 0."""
        if spec.weight <= 0 or spec.owner_weight <= 0:
            raise ValueError(f"weight: {spec.weight}, {spec.owner_weight}; allowed: above 0")
        self._added += 1
        share = self._shares.setdefault(spec.owner, Share(spec.owner_weight, self._virtual_now))
        share.weight = spec.owner_weight  # the latest word
        share.sessions += 1
        self._queues[spec.session_id] = SessionQueue(self._added, spec, share, share.now)

    def remove(self, session_id: str) -> None:
        """Forget a session and its frames. Idempotent."""
        self.held.forget(session_id)
        queue = self._queues.pop(session_id, None)
        if queue is None:
            return
        if self._ready.pop(session_id, None) is not None:
            queue.share.ready -= 1
        queue.share.sessions -= 1
        if not queue.share.sessions and self._shares.get(queue.spec.owner) is queue.share:
            del self._shares[queue.spec.owner]

    def offer(self, frame: Frame) -> bool:
        """A frame is ready; frames of a session come in order. False if its session is not known."""
        queue = self._queues.get(frame.session_id)
        if queue is None:
            return False
        if not queue.frames:
            queue.service = max(queue.service, queue.share.now)
            if not queue.share.ready:
                saved = _OWNER_SAVED * self.limits.service_level
                queue.share.service = max(queue.share.service, self._virtual_now - saved)
            queue.share.ready += 1
            self._ready[frame.session_id] = queue
        queue.frames.append(frame)
        self.control.window.offered(frame.budget)
        return True

    def withdraw(self, session_id: str, frame_id: int) -> bool:
        """Take a frame back for a later one. False if it is not waiting here (any more)."""
        queue = self._ready.get(session_id)
        if queue is None:
            return False
        found = queue.withdraw(frame_id)
        if found:
            self.control.window.dropped()
        if not queue.frames:
            self._not_ready(queue)
        return found

    def _not_ready(self, queue: SessionQueue) -> None:
        del self._ready[queue.spec.session_id]
        queue.share.ready -= 1

    def invalidate(self) -> list[Key]:
        """What the engine knew of all sessions is gone: the next frame of each has to be computed in full.

        Returns the frames that are lost: their labels were to come later.
        """
        for queue in self._queues.values():
            queue.credit.restart()
        return self.held.take_all()

    def finish(self, session_id: str) -> None:
        """No more frames of a session will come than were offered."""
        self.held.finish(session_id)

    def due_in(self, now: float) -> float:
        """Seconds until frames can wait no longer for others after them, 0 if there are such."""
        return max(0.0, self.held.next_due(self._ready) - now)

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
        self._full = False
        self._begun = now
        due = self.held.due(now, self._ready)
        if not self._ready:
            return StepPlan((), due=due)
        shed = self._shed(now) if self.control.level >= Level.SHEDDING else ()
        least = self._advance_clocks()
        ahead = _AHEAD * self.limits.service_level
        owner_latest = least + _OWNER_AHEAD * self.limits.service_level

        def urgency(queue: SessionQueue) -> tuple[bool, bool, float, float, int]:
            share, first = queue.share, queue.frames[0]
            late = queue.service > share.now + ahead
            wanted = first.submitted + self._slack(queue)
            return share.service > owner_latest, late, wanted, queue.service, queue.number

        chosen = nsmallest(2 * self.limits.max_batch, self._ready.values(), key=urgency)
        two = self._tries_two()
        self._fill(chosen, now, *((math.inf, 2) if two else (self._allowed(), self.limits.max_batch)))
        if two or (self._full and len(self._running) == 1):
            self._single += 1
        elif len(self._running) > 1:
            self._single = 0
        return StepPlan(tuple((running.frame, running.grant) for running in self._running), shed, due)

    def _slack(self, queue: SessionQueue) -> float:
        """Seconds that a session's next frame may wait beside others': what is left of its delay."""
        if not queue.spec.max_delay:
            return 0.0
        return max(0.0, queue.spec.max_delay - self.held.used(queue.frames[0]))

    def _advance_clocks(self) -> float:
        """Bring the virtual clocks to the least service of those that wait; that of the owners."""
        first: dict[int, SessionQueue] = {}  # of every owner, by the share's identity
        for queue in self._ready.values():
            other = first.get(id(queue.share))
            if other is None or queue.service < other.service:
                first[id(queue.share)] = queue
        for queue in first.values():
            queue.share.now = max(queue.share.now, queue.service)
        least = min(queue.share.service for queue in first.values())
        self._virtual_now = max(self._virtual_now, least)
        return least

    def _fill(self, candidates: list[SessionQueue], now: float, allowed: float, most: int) -> None:
        """Choose, in this order, what fits into a step of ``allowed`` seconds and at most so many frames."""
        took, oldest = self.costs.fixed, now
        others = any(not queue.credit.fresh for queue in candidates)
        for queue in candidates:
            if len(self._running) >= most:
                break
            if queue.credit.fresh and others and self._first_frames < 0.0:
                continue
            frame = queue.frames[0]
            budget = self.control.budget(frame.budget)
            work, limit = queue.work(frame, budget), 1.0
            predicted = self.costs.frame_seconds(work)
            wanted = frame.submitted + self._slack(queue)
            due = min(oldest, wanted) + _ON_TIME * self.limits.service_level
            late = now + took + predicted > due
            if work.whole and late and self.control.lowers(frame.budget) and queue.may_defer(frame, budget):
                predicted, limit = self.costs.frame_seconds(replace(work, whole=False, share=0.0)), 0.0
            if self._running and took + predicted > allowed:
                self._full = True
                continue
            took, oldest = took + predicted, min(oldest, wanted)
            self._first_frames += -predicted if queue.credit.fresh else predicted
            self._first_frames = min(0.0, self._first_frames)
            self._start(queue, Grant(budget, limit), predicted)

    def _sheds(self) -> bool:
        """Whether frames are dropped for want of time, so that steps may be longer than they should."""
        return self.limits.max_step_seconds is None and self.control.level >= Level.SHEDDING

    def _allowed(self) -> float:
        """Seconds that the next step may take.

        While frames are dropped anyway, more of them share what a step costs by itself, where that is much.
        """
        limit = self.limits.step_seconds
        if self._sheds() and self.costs.fixed > _MUCH * limit:
            return max(limit, _ON_TIME * self.limits.service_level)
        return limit

    def _tries_two(self) -> bool:
        """Whether the next step has two frames, whatever they are thought to take.

        Steps of one frame each do not tell what is the step's and what the frame's. Ever more seldom.
        """
        return self._sheds() and self._single >= _SINGLE and self._single.bit_count() == 1

    def _start(self, queue: SessionQueue, grant: Grant, predicted: float) -> None:
        slack, frame = self._slack(queue), queue.frames.popleft()
        if not queue.frames:
            self._not_ready(queue)
        queue.serve(predicted)
        self._running.append(_Running(queue, frame, grant, predicted, slack))

    def _shed(self, now: float) -> tuple[Frame, ...]:
        """Drop what waited for longer than the service level and has a later frame behind it."""
        dropped = []
        for queue in self._ready.values():
            while len(queue.frames) > 1 and queue.frames[0].droppable:
                if now - queue.frames[0].submitted - self._slack(queue) <= self.limits.service_level:
                    break
                self.control.window.dropped()
                dropped.append(queue.frames.popleft())
        return tuple(dropped)

    def done(
        self,
        outcomes: tuple[Outcome, ...],
        seconds: float,
        now: float,
        *,
        late: Sequence[Outcome] = (),
        due: Sequence[Key] = (),
        restarted: bool = False,
    ) -> list[Key]:
        """What the latest plan came to, frame by frame, how long it took, and when it was over.

        ``now``: monotonic seconds. ``late``: outcomes of frames that were held, ``due``: the plan's.
        ``restarted``: the engine had to be started again meanwhile, so that the time tells nothing of the
        frames and is not their sessions' to pay.
        Returns frames that were held and will get no outcome any more, though they should have.
        """
        extra = self._answered(late)
        lost = [key for session_id, frame_id in due for key in self.held.take(session_id, frame_id + 1)]
        for running, outcome in zip(self._running, outcomes, strict=True):
            lost += self._hold(running, outcome, now)
        self._account(outcomes, extra, seconds, now, restarted)
        return lost

    def _answered(self, late: Sequence[Outcome]) -> list[Work]:
        """Frames that were held have their labels; what was computed of them for that, bins of some."""
        works = []
        for outcome in late:
            self.held.remove(outcome.session_id, outcome.frame_id)
            queue, stats = self._queues.get(outcome.session_id), outcome.stats
            if (
                queue is not None
                and stats is not None
                and stats.units_computed
                and outcome.labels is not None
            ):
                height, width = outcome.labels.shape
                share = stats.units_computed / stats.units_total
                queue.credit.charge(0.0, share)
                works.append(Work(queue.spec.model, height * width / 1e6, False, share, compared=False))
        return works

    def _hold(self, running: _Running, outcome: Outcome, now: float) -> list[Key]:
        """Note whether a frame is held. If it is not, none before it is either: those that still are."""
        frame, lost = running.frame, list[Key]()
        if not running.queue.spec.max_delay:
            return lost
        if outcome.failure is None and outcome.labels is None:
            self.held.add(frame, running.queue.spec.max_delay)
        elif outcome.failure is None or outcome.failure.kind is not FailureKind.INVALID:
            lost = self.held.take(frame.session_id, frame.frame_id)
        self.held.saw(frame, now)
        return lost

    def _account(
        self,
        outcomes: tuple[Outcome, ...],
        extra: list[Work],
        seconds: float,
        now: float,
        restarted: bool,
    ) -> None:
        """Let budgets, prices and the load follow from it."""
        computed: list[_Computed] = []
        for running, outcome in zip(self._running, outcomes, strict=True):
            if outcome.failure is not None and outcome.failure.kind is FailureKind.INVALID:
                continue  # it was not computed, and its session has what it had before
            queue, frame = running.queue, running.frame
            anew, fresh, saved = queue.starts_anew(frame), queue.credit.fresh, queue.credit.balance
            work = queue.account(frame, running.grant, outcome.stats)
            if work is not None:
                used = (work.share + queue.credit.balance - saved) / running.grant.budget
                computed.append(_Computed(running, work, anew, None if fresh else used))
        self._running.clear()
        works = [each.work for each in computed]
        if works and not restarted:
            if len(works) == len(outcomes):
                self.costs.learn([*works, *extra], seconds)
            factor = seconds / max(self.costs.seconds([*works, *extra]), 1e-9)
            loads = [self._load(each, factor) for each in computed]
            self.control.window.computed(loads, seconds, self._full)
        for each in computed:
            each.running.queue.last_done = now

    def _load(self, computed: _Computed, factor: float) -> FrameLoad:
        """What a frame took of the engine's time; what that is more than expected adds to its service.

        Without what a step costs by itself: when there is more to do, more frames share that.
        """
        running, work = computed.running, computed.work
        queue, frame = running.queue, running.frame
        prices = self.costs.prices(work.group, work.megapixels * factor)
        spent, units = prices.total(work), prices.units(work)
        queue.serve(spent - running.predicted)
        asked, bare = frame.budget, frame.budget >= 1.0 and not queue.spec.retain
        return FrameLoad(
            wait=max(0.0, self._begun - max(frame.submitted, queue.last_done) - running.slack),
            spent=spent,
            frame=prices.frame,
            compared=prices.compared,
            units=prices.whole * asked if computed.anew else units * asked / running.grant.budget,
            asked=prices.whole * asked,
            least=prices.whole * self.control.least(asked),
            used=computed.used,
            whole=prices.whole,
            bound=frame.whole or (computed.used is None and not bare),
            bare=bare,
            backlogged=frame.submitted < queue.last_done,
        )
