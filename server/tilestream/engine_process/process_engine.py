"""An engine in a process of its own that is replaced when it dies, as soon as it does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from tilestream.engine_process.handle import EngineDied, EngineProcess, ProcessHandle
from tilestream.engine_process.wire import Parcel, pack, unpack
from tilestream.messages import (
    EngineError,
    EngineInfo,
    EngineLost,
    EngineReport,
    Outcome,
    SessionSpec,
    StepPlan,
)

log = logging.getLogger(__name__)

MAX_DEATHS, DEATH_WINDOW = 5, 60.0  # more deaths within so many seconds: it will not get better
MAX_STARTS = 5  # in a row that fail: it will not get better either
STANDBY_AFTER = 3.0  # seconds after a process took over; loading another one at once would slow it down
REPORT_SECONDS = 1.0  # between two questions how an idle engine is doing
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 5.0  # seconds before another try to start; doubles
_LONGEST_STANDBY_DELAY = 300.0  # seconds before another try for one that stands by
_CANNOT_START = (EngineError, RuntimeError, OSError, EOFError)  # the latter two: no process can be had


class ProcessEngine:
    """Implements ``messages.Engine``. Where the process dies its sessions go on in another, without features.

    A step whose process dies is run once more in the new one; if that dies too, its frames fail. With
    ``standby`` another process is kept that has loaded everything and takes over within milliseconds.
    """

    def __init__(
        self, how: EngineProcess, *, standby: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts the process and waits until it is ready. Raises what ``make_engine`` raises."""
        self._how, self._wants_standby, self._clock = how, standby, clock
        self._specs: dict[str, SessionSpec] = {}
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._report = EngineReport()
        self._report_at = float("-inf")
        self._restarts = 0
        self._standby: ProcessHandle | None = None
        self._standby_delay, self._standby_at = STANDBY_AFTER, float("inf")
        self._active = self._begin(ProcessHandle(how))

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def process_id(self) -> int:
        """Of the process that computes now."""
        return self._active.process_id

    @property
    def standby_id(self) -> int | None:
        """Of the process that would take over, if there is one."""
        return None if self._standby is None else self._standby.process_id

    def open(self, spec: SessionSpec) -> None:
        self._ask_until_answered("open", spec)
        self._specs[spec.session_id] = spec

    def step(self, plan: StepPlan) -> list[Outcome]:
        self._keep_standby()
        if not plan.frames and not plan.due:
            return []
        try:
            return self._step(plan)
        except EngineDied as death:
            self._replace(death)
        try:
            return self._step(plan)
        except EngineDied as death:
            self._replace(death)
            raise EngineError("the engine died twice while it computed this frame and others") from death

    def report(self) -> EngineReport:
        return replace(self._report, restarts=self._restarts)

    def release(self, session_id: str) -> None:
        if self._specs.pop(session_id, None) is not None:
            self._ask_until_answered("release", session_id)

    def check_health(self) -> None:
        if not self._active.alive():
            self._replace(EngineDied("it ended by itself"))
        elif self._clock() >= self._report_at:
            self._report_at = self._clock() + REPORT_SECONDS
            with contextlib.suppress(EngineError, RuntimeError):  # a step that fails as well will tell
                self._ask_until_answered("report", None)
        self._keep_standby()

    def close(self) -> None:
        self._wants_standby = False
        if self._standby is not None:
            self._standby.end()
        self._active.close()

    def _step(self, plan: StepPlan) -> list[Outcome]:
        if self._active.ended:
            raise EngineDied("it is gone")
        arena = self._active.arena
        parcel: Parcel = self._active.ask("step", pack((plan.frames, plan.due), arena))
        outcomes: list[Outcome]
        outcomes, self._report = unpack(parcel, arena, copy=True)
        return outcomes

    def _ask_until_answered(self, verb: str, argument: object) -> None:
        """Ask; if the process is dead or dies of it, ask the next one."""
        while True:
            try:
                self._report = self._active.ask(verb, argument)
            except EngineDied as death:
                self._replace(death)
            else:
                return

    def _begin(self, process: ProcessHandle) -> ProcessHandle:
        """Wait for it and open all sessions in it. Raises EngineError or RuntimeError where that fails."""
        try:
            self._info, self._report = process.wait()
            for spec in self._specs.values():
                process.ask("open", spec)
        except EngineDied as death:
            process.end()
            raise EngineError(f"the engine's process did not start: {death}") from death
        except BaseException:
            process.end()
            raise
        self._standby_delay = STANDBY_AFTER
        self._standby_at = self._clock() + STANDBY_AFTER
        log.info("engine process started", extra={"pid": process.process_id})
        return process

    def _keep_standby(self) -> None:
        """Have a process ready to take over, if it is time to. One that cannot be had is tried ever later."""
        if self._standby is not None and not self._standby.alive():
            self._defer_standby(self._standby.last_words())
            self._standby.end()
            self._standby = None
        if self._wants_standby and self._standby is None and self._clock() >= self._standby_at:
            try:
                self._standby = ProcessHandle(self._how)
            except (OSError, EOFError) as error:
                self._defer_standby(str(error))

    def _defer_standby(self, why: str) -> None:
        seconds = self._standby_delay
        log.warning("no engine process stands by: %s", why, extra={"next_try_seconds": seconds})
        self._standby_at = self._clock() + seconds
        self._standby_delay = min(2.0 * seconds, _LONGEST_STANDBY_DELAY)

    def _standby_or_new(self) -> ProcessHandle:
        """The process that stands by, if it still does, or a new one."""
        standby, self._standby = self._standby, None
        if standby is not None:
            if standby.alive():
                return standby
            standby.end()
        return ProcessHandle(self._how)

    def _replace(self, death: EngineDied) -> None:
        """Put another process in the place of one that died. Raises EngineLost where that is hopeless."""
        began, delay = self._clock(), _FIRST_DELAY
        log.error("an engine process died: %s", death, extra={"pid": self._active.process_id})
        self._active.end()
        self._deaths.append(began)
        if len(self._deaths) == MAX_DEATHS and began - self._deaths[0] < DEATH_WINDOW:
            raise EngineLost(f"engine processes died {MAX_DEATHS} times within {DEATH_WINDOW:g} s")
        for _ in range(MAX_STARTS):
            try:
                self._active = self._begin(self._standby_or_new())
            except _CANNOT_START as error:
                log.error("an engine process could not take over: %s", error)
                time.sleep(delay)
                delay = min(2.0 * delay, _LONGEST_DELAY)
            else:
                break
        else:
            raise EngineLost(f"no engine process could be started, {MAX_STARTS} times in a row")
        self._restarts += 1
        seconds = round(self._clock() - began, 3)
        log.warning("an engine process took over", extra={"sessions": len(self._specs), "seconds": seconds})
