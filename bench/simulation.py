"""The real scheduler between virtual cameras and an engine that only costs time, on a virtual clock."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tilestream.messages import Frame, FrameStats, Grant, Outcome, Picture, SessionSpec, StepPlan
from tilestream.scheduling.credit import Credit, pays_for_whole
from tilestream.scheduling.overload import Level, LoadReport
from tilestream.scheduling.scheduler import Limits, Scheduler

UNITS = 1000  # block units of every virtual frame


@dataclass(frozen=True, slots=True)
class VirtualCamera:
    """A camera. ``active``: when it streams, seconds. ``fps`` may be infinite: as fast as it gets answers.

    ``waits``: its queue policy is WAIT, otherwise its oldest waiting frame is dropped for a new one.
    ``rate``: what its frames per second are multiplied with at a time (night and day, bursts, stalls at 0).
    ``phase``: see ``SessionSpec``.
    """

    fps: float
    active: tuple[float, float] = (0.0, float("inf"))
    size: tuple[int, int] = (360, 480)  # height, width
    budget: float = 1.0
    weight: float = 1.0
    frames_in_flight: int = 2
    waits: bool = False
    rate: Callable[[float], float] = lambda now: 1.0
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class VirtualWork:
    """What is computed of a frame: the share of it, and whether it is compared with the one before."""

    megapixels: float
    share: float
    compared: bool


@dataclass(frozen=True, slots=True)
class VirtualEngine:
    """What a step costs, seconds: by itself, per megapixel of a frame, of a whole one, of all of it in tiles.

    ``compared``: per megapixel, what being compared with the one before adds to a frame, unless its budget
    is 1.
    ``batch``: what the first whole frame of a step costs more than the others, which share its launches.
    ``spread``: every frame computes its budget's share; otherwise whole frames, as often as budgets allow.
    ``noise``: relative, of every step. Every ``outlier_every`` steps one takes three times as long.
    """

    fixed: float = 0.002
    frame: float = 0.03
    whole: float = 0.27
    part: float = 0.3
    compared: float = 0.0
    batch: float = 0.0
    spread: bool = False
    noise: float = 0.05
    outlier_every: int = 100

    def seconds(self, works: Sequence[VirtualWork], chance: random.Random) -> float:
        """Of a step."""
        total = self.fixed + self.batch * any(work.share >= 1.0 for work in works)
        for work in works:
            units = self.whole if work.share >= 1.0 else self.part * work.share
            total += work.megapixels * (self.frame + self.compared * work.compared + units)
        total *= chance.lognormvariate(0.0, self.noise)
        return total * (3.0 if chance.randrange(self.outlier_every) == 0 else 1.0)


@dataclass(frozen=True, slots=True)
class Answered:
    """A frame that was computed. ``at``: when; ``latency``: since it was sent, seconds."""

    at: float
    camera: int
    latency: float
    budget: float
    share: float


@dataclass(slots=True)
class Record:
    """What happened. ``drops``: time and camera, by the queue's policy and by overload control alike."""

    answered: list[Answered] = field(default_factory=list)
    drops: list[tuple[float, int]] = field(default_factory=list)
    refusals: list[tuple[float, int]] = field(default_factory=list)
    loads: list[tuple[float, LoadReport]] = field(default_factory=list)
    steps: int = 0
    busy_seconds: float = 0.0
    scheduler_seconds: float = 0.0  # of real CPU time

    def between(self, begin: float, end: float) -> list[Answered]:
        """What was answered in a span of time."""
        return [answer for answer in self.answered if begin <= answer.at < end]


@dataclass(slots=True)
class _Session:
    """A camera that is connected. ``sent``: by frame, when; its frames in flight."""

    camera: VirtualCamera
    credit: Credit
    kept: bool = False  # the engine has something of its latest frame
    next_id: int = 0
    sent: dict[int, float] = field(default_factory=dict)
    blocked: bool = False  # a frame waits for room


class Simulation:
    """Runs cameras against the scheduler. The same arguments and seed give the same record."""

    def __init__(
        self,
        cameras: Sequence[VirtualCamera],
        engine: VirtualEngine | None = None,
        limits: Limits | None = None,
        seed: int = 0,
        retry_delay: float = 2.0,
    ) -> None:
        self.scheduler = Scheduler(limits)
        self.record = Record()
        self._engine = engine or VirtualEngine()
        self._cameras = cameras
        self._chance = random.Random(seed)
        self._retry_delay = retry_delay
        self._sessions: dict[int, _Session] = {}
        self._events: list[tuple[float, int, str, int]] = []
        self._number = 0
        self._free = True
        self._plan = StepPlan(())
        self._outcomes: tuple[Outcome, ...] = ()
        self._seconds = 0.0
        for index, camera in enumerate(cameras):
            self._at(camera.active[0], "open", index)

    def run(self, seconds: float) -> Record:
        """Go on until ``seconds`` of virtual time."""
        handlers = {"open": self._open, "frame": self._frame, "done": self._done}
        while self._events and self._events[0][0] < seconds:
            now, _, kind, index = heapq.heappop(self._events)
            handlers[kind](now, index)
            if self._free:
                self._step(now)
        return self.record

    def _at(self, when: float, kind: str, index: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, kind, index))

    def _open(self, now: float, index: int) -> None:
        if self.scheduler.load(now).level >= Level.REFUSING:
            self.record.refusals.append((now, index))
            self._at(now + self._retry_delay, "open", index)
            return
        camera = self._cameras[index]
        self._sessions[index] = _Session(camera, Credit(camera.phase))
        self.scheduler.add(SessionSpec(str(index), "", camera.weight, phase=camera.phase))
        phase = 0.0 if camera.fps == float("inf") else self._chance.random() / camera.fps
        self._at(now + phase, "frame", index)

    def _frame(self, now: float, index: int) -> None:
        """The camera has a frame."""
        session, camera = self._sessions[index], self._cameras[index]
        if now >= camera.active[1]:
            self.scheduler.remove(str(index))
            del self._sessions[index]
            return
        rate = camera.fps * camera.rate(now)
        if rate < float("inf"):
            self._at(now + (1.0 / rate if rate > 0 else 0.5), "frame", index)
        if rate > 0:
            self._send(now, index, session)

    def _send(self, now: float, index: int, session: _Session) -> None:
        camera = session.camera
        if len(session.sent) >= camera.frames_in_flight and not camera.waits:
            oldest = next((f for f in session.sent if self.scheduler.withdraw(str(index), f)), None)
            if oldest is not None:
                del session.sent[oldest]
                self.record.drops.append((now, index))
        session.blocked = len(session.sent) >= camera.frames_in_flight
        if session.blocked:
            return  # a live camera: when there is room, it sends what it sees then
        session.sent[session.next_id] = now
        height, width = camera.size
        frame = Frame(
            str(index),
            session.next_id,
            Picture(width, height, (width, height)),
            budget=camera.budget,
            submitted=now,
            droppable=not camera.waits,
        )
        session.next_id += 1
        begin = time.process_time()
        self.scheduler.offer(frame)
        self.record.scheduler_seconds += time.process_time() - begin
        if camera.fps == float("inf"):
            self._send(now, index, session)

    def _step(self, now: float) -> None:
        begin = time.process_time()
        self._plan = self.scheduler.schedule(now)
        self.record.scheduler_seconds += time.process_time() - begin
        for frame in self._plan.shed:
            self._sessions[int(frame.session_id)].sent.pop(frame.frame_id, None)
            self.record.drops.append((now, int(frame.session_id)))
        if not self._plan.frames:
            return
        works, outcomes = [], []
        for frame, grant in self._plan.frames:
            share, compared = self._compute(self._sessions.get(int(frame.session_id)), grant)
            works.append(VirtualWork(frame.picture.megapixels, share, compared))
            stats = FrameStats(share >= 1.0, round(share * UNITS), UNITS, budget=grant.budget)
            outcomes.append(Outcome(frame.session_id, frame.frame_id, stats=stats))
        self._outcomes, self._seconds = tuple(outcomes), self._engine.seconds(works, self._chance)
        self._free = False
        self.record.steps += 1
        self.record.busy_seconds += self._seconds
        self._at(now + self._seconds, "done", -1)

    def _compute(self, session: _Session | None, grant: Grant) -> tuple[float, bool]:
        """What share of a frame the engine's gate would compute, and whether it looks at the one before."""
        if session is None:
            return 1.0, False
        credit, kept = session.credit, session.kept
        session.kept = grant.budget < 1.0
        if not (kept and session.kept):
            share = 1.0
        elif self._engine.spread:
            share = min(grant.budget, grant.limit)
        else:
            share = float(pays_for_whole(min(credit.with_budget(grant.budget), grant.limit)))
        credit.charge(grant.budget, share)
        return share, kept and session.kept

    def _done(self, now: float, _: int) -> None:
        begin = time.process_time()
        self.scheduler.done(self._outcomes, self._seconds, now)
        self.record.scheduler_seconds += time.process_time() - begin
        self.record.loads.append((now, self.scheduler.load(now)))
        self._free = True
        for outcome in self._outcomes:
            index = int(outcome.session_id)
            session = self._sessions.get(index)
            if session is None or outcome.frame_id not in session.sent or outcome.stats is None:
                continue
            sent = session.sent.pop(outcome.frame_id)
            share = outcome.stats.units_computed / UNITS
            self.record.answered.append(Answered(now, index, now - sent, outcome.stats.budget, share))
            if session.blocked or session.camera.fps == float("inf"):
                self._send(now, index, session)
