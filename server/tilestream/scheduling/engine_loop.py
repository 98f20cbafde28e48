"""The thread that drives the engine: plan, compute, hand out; over and over.

It is the only one that talks to the engine, which it makes itself (CUDA contexts and OpenMP
settings belong to a thread). An exception inside a step costs the frames of that step; only an engine
that is lost for good ends the thread. What crosses to the frontend are plain messages through one callback.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain, repeat

from tilestream.messages import (
    DropReason,
    Engine,
    EngineError,
    EngineInfo,
    EngineLost,
    EngineReport,
    Failure,
    Frame,
    Outcome,
    SessionSpec,
    StepPlan,
)
from tilestream.scheduling.held_frames import Key
from tilestream.scheduling.overload import LoadReport
from tilestream.scheduling.scheduler import Scheduler

log = logging.getLogger(__name__)

_HEALTH_CHECK = 0.2  # seconds between checks of an engine that has nothing to do
_SHED = Failure.dropped(
    DropReason.OVERLOAD, "the server cannot keep up; a later frame of this session was computed instead"
)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step brought: an outcome per frame of the plan, and how long it took; or, without any outcome,
    how the engine is doing now.

    ``begin``: monotonic seconds. ``engine``: None where the step failed as a whole. ``others``: outcomes of
    frames that are not of this step: dropped instead, or of an earlier one. ``deferred``: frames that would
    have been whole, had there been time. ``loop``: whose step it was, where there are several engines.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    begin: float = 0.0
    engine: EngineReport | None = None
    others: tuple[Outcome, ...] = ()
    deferred: int = 0
    loop: int = 0

    @property
    def stage_seconds(self) -> dict[str, float]:
        """What the step took by stage: the sum of its frames' shares; without the stages that it skipped."""
        total: defaultdict[str, float] = defaultdict(float)
        for outcome in self.outcomes:
            for stage, seconds in outcome.stats.stage_seconds.items() if outcome.stats is not None else ():
                total[stage] += seconds
        return dict(total)


class EngineLoop:
    """Runs an engine in a thread of its own. All methods may be called from any thread.

    ``make_engine`` runs in that thread, and so does ``on_death``, if the loop itself fails. ``on_step`` is
    called in it after every step and must return at once (hand the report to an event loop, say).
    ``number`` is in the reports. ``clock``: of all times that are said to be monotonic, here and in frames.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        scheduler: Scheduler,
        on_step: Callable[[StepReport], None],
        on_death: Callable[[], None] = lambda: None,
        number: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_engine = make_engine
        self._scheduler = scheduler
        self._on_step = on_step
        self._on_death = on_death
        self._number = number
        self._clock = clock
        self._restarts = 0
        self._told: EngineReport | None = None
        self._commands: deque[tuple[Callable[[Engine], None], Future[None]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._ready: Future[EngineInfo] = Future()
        self._thread = threading.Thread(target=self._run, name=f"engine{number}", daemon=True)

    def start(self) -> Future[EngineInfo]:
        """Make the engine and begin; the future has what it offers, or what went wrong."""
        self._thread.start()
        return self._ready

    def stop(self, timeout: float | None = None) -> bool:
        """Finish the step that runs, close the engine. False if that took longer than ``timeout`` seconds."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def open(self, spec: SessionSpec) -> Future[None]:
        """Prepare a session; done when its frames may be offered. Fails with what the engine raises."""

        def command(engine: Engine) -> None:
            engine.open(spec)
            with self._wake:
                self._scheduler.add(spec)

        return self._call(command)

    def release(self, session_id: str) -> Future[None]:
        """Forget a session: its waiting frames at once, its state in the engine between two steps."""
        with self._wake:
            self._scheduler.remove(session_id)

        def command(engine: Engine) -> None:
            with self._wake:
                self._scheduler.remove(session_id)  # again: an open() may have been on its way
            engine.release(session_id)

        return self._call(command)

    def offer(self, frame: Frame) -> bool:
        """A frame is ready; its outcome comes with some later step. False: its session is gone."""
        with self._wake:
            known = self._scheduler.offer(frame)
            self._wake.notify()
        return known

    def withdraw(self, session_id: str, frame_id: int) -> bool:
        """Take a frame back before it is computed. False if it is too late for that."""
        with self._wake:
            return self._scheduler.withdraw(session_id, frame_id)

    def finish(self, session_id: str) -> None:
        """No more frames of a session will come than were offered: none waits for those."""
        with self._wake:
            self._scheduler.finish(session_id)
            self._wake.notify()

    def load(self) -> LoadReport:
        """What is being done about the load now."""
        with self._wake:
            return self._scheduler.load(self._clock())

    def _call(self, command: Callable[[Engine], None]) -> Future[None]:
        future: Future[None] = Future()
        with self._wake:
            if self._stopping:
                future.set_exception(EngineError("the engine is stopping"))
            else:
                self._commands.append((command, future))
                self._wake.notify()
        return future

    def _run(self) -> None:
        try:
            engine = self._make_engine()
            info = engine.info
        except Exception as error:
            self._ready.set_exception(error)
            with self._wake:
                self._stopping = True
            return
        self._ready.set_result(info)
        try:
            while self._turn(engine):
                pass
        except Exception:
            log.exception("the engine's thread died")
            self._give_up()
        finally:
            engine.close()

    def _give_up(self) -> None:
        """Nothing more will be computed: fail what is asked for, tell the server."""
        with self._wake:
            self._stopping = True
            commands = list(self._commands)
            self._commands.clear()
        _refuse(commands)
        self._on_death()

    def _turn(self, engine: Engine) -> bool:
        """Wait for work and do it. False when it is time to stop."""
        with self._wake:
            if self._idle():
                self._wake.wait(min(_HEALTH_CHECK, self._scheduler.due_in(self._clock())))
            idle = self._idle()
            commands = list(self._commands)
            self._commands.clear()
            if self._stopping:
                _refuse(commands)
                return False
            plan = StepPlan(()) if commands else self._scheduler.schedule(self._clock())
        for index, (command, future) in enumerate(commands):
            try:
                self._execute(engine, command, future)
            except EngineLost:
                _refuse(commands[index + 1 :])
                raise
        if idle:
            engine.check_health()
        if plan.frames or plan.due:
            self._on_step(self._step(engine, plan))
        else:
            self._tell_state(engine.report())
        return True

    def _tell_state(self, report: EngineReport) -> None:
        """How the engine is doing, without a step, where that has changed: gauges tell of the present."""
        lost = self._note_restarts(report) or ()
        if report != self._told:
            self._told = report
            others = tuple(map(_lost, lost))
            self._on_step(StepReport((), 0.0, engine=report, others=others, loop=self._number))

    def _idle(self) -> bool:
        busy = self._stopping or self._commands or self._scheduler.waiting()
        return not busy and self._scheduler.due_in(self._clock()) > 0.0

    def _note_restarts(self, report: EngineReport) -> list[Key] | None:
        """What a restart of the engine has lost; no session has features any more. None: there was none."""
        if report.restarts == self._restarts:
            return None
        self._restarts = report.restarts
        with self._wake:
            return self._scheduler.invalidate()

    @staticmethod
    def _execute(engine: Engine, command: Callable[[Engine], None], future: Future[None]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            command(engine)
        except EngineLost as error:
            future.set_exception(error)
            raise
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    def _step(self, engine: Engine, plan: StepPlan) -> StepReport:
        """Compute a plan. Every frame gets an outcome, whatever the engine does."""
        begin = self._clock()
        report: EngineReport | None = None
        late: list[Outcome] = []
        lost: list[Key] | None = None
        others = [Outcome(frame.session_id, frame.frame_id, failure=_SHED) for frame in plan.shed]
        try:
            found = engine.step(plan)
            outcomes = _in_order(plan, found)
            late = found[len(outcomes) :]
            report = self._told = engine.report()
            lost = self._note_restarts(report)
        except EngineLost:
            raise
        except EngineError as problem:
            outcomes = tuple(Outcome.failed(frame, str(problem)) for frame, _ in plan.frames)
        except Exception:
            log.exception("a step of %d frames failed", len(plan.frames))
            outcomes = tuple(Outcome.failed(frame, "the computation failed") for frame, _ in plan.frames)
        end = self._clock()
        with self._wake:
            more = self._scheduler.done(
                outcomes, end - begin, end, late=late, due=plan.due, restarted=lost is not None
            )
        others += late + list(map(_lost, [*(lost or ()), *more]))
        deferred = sum(grant.limit < 1.0 for _, grant in plan.frames)
        return StepReport(outcomes, end - begin, begin, report, tuple(others), deferred, self._number)


def _in_order(plan: StepPlan, found: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """An outcome per frame of the plan: the engine's if it can be used, else a failure."""
    frames = [frame for frame, _ in plan.frames]
    return tuple(map(_checked, frames, chain(found, repeat(None))))


def _checked(frame: Frame, outcome: Outcome | None) -> Outcome:
    if outcome is None or (outcome.session_id, outcome.frame_id) != (frame.session_id, frame.frame_id):
        return Outcome.failed(frame, "the engine gave no answer for this frame")
    shape = frame.picture.compute[::-1]
    if any(plane is not None and plane.shape != shape for plane in (outcome.labels, outcome.confidence)):
        return Outcome.failed(frame, "the engine gave labels of another size than the frame's")
    return outcome


def _lost(key: Key) -> Outcome:
    """Of a frame whose labels were to come later."""
    failure = Failure.dropped(DropReason.ENGINE_ERROR, "what was known of the session was lost meanwhile")
    return Outcome(*key, failure=failure)


def _refuse(commands: list[tuple[Callable[[Engine], None], Future[None]]]) -> None:
    """Fail calls that will not be made any more."""
    for _, future in commands:
        if future.set_running_or_notify_cancel():
            future.set_exception(EngineError("the engine is stopping"))
