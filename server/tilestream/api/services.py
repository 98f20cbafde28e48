"""What every call needs: handed to the servicers once, by the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tilestream.access.admission import Admission
from tilestream.access.authenticator import Authenticator
from tilestream.access.caller import Caller
from tilestream.api.media_threads import MediaThreads
from tilestream.clock import Clock
from tilestream.config import Settings
from tilestream.messages import EngineInfo, Outcome
from tilestream.scheduling.engine_group import EngineGroup
from tilestream.scheduling.engine_loop import StepReport
from tilestream.sessions.registry import SessionRegistry
from tilestream.sessions.session import Session
from tilestream.telemetry.metrics import Metrics
from tilestream.telemetry.tracing import FrameTracer

log = logging.getLogger(__name__)


class Lifecycle:
    """Whether the server takes work, and how long it has left when not."""

    def __init__(self, clock: Clock) -> None:
        self.draining = asyncio.Event()
        self._clock = clock
        self._grace = 0.0
        self._deadline = float("inf")

    def drain(self, grace: float) -> None:
        """Take no more work; what was accepted has ``grace`` seconds."""
        self._grace = grace
        self._deadline = self._clock.now() + grace
        self.draining.set()

    def remaining(self) -> float:
        """Seconds of grace that are left; infinite while not draining."""
        return max(0.0, self._deadline - self._clock.now())

    def overdue(self) -> bool:
        """True when frames that are not computed yet have to be given up, so that answers get out."""
        return self.remaining() < min(1.0, 0.5 * self._grace)


Receiver = Callable[[StepReport | None, Outcome], None]


class OutcomeRouter:
    """Brings what the engines' threads computed to the sessions, on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._receivers: dict[str, Receiver] = {}

    def add(self, session_id: str, receive: Receiver) -> None:
        """Send a session's outcomes to ``receive(report, outcome)``; the report is of the frame's own step.

        It is None for an outcome that comes before or after that.
        """
        self._receivers[session_id] = receive

    def remove(self, session_id: str) -> None:
        """Drop whatever still comes for a session. Idempotent."""
        self._receivers.pop(session_id, None)

    def on_step(self, report: StepReport) -> None:
        """Called by an engine's thread after a step."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._deliver, report)

    def _deliver(self, report: StepReport) -> None:
        if report.outcomes:
            self._metrics.step_done(
                len(report.outcomes),
                report.seconds,
                report.engine,
                report.deferred,
                report.loop,
                report.stage_seconds,
            )
        elif report.engine is not None:
            self._metrics.engine_reported(report.engine, report.loop)
        for outcome in report.others:
            self._hand_over(None, outcome)
        for outcome in report.outcomes:
            self._hand_over(report, outcome)

    def _hand_over(self, report: StepReport | None, outcome: Outcome) -> None:
        receive = self._receivers.get(outcome.session_id)
        if receive is not None:
            try:
                receive(report, outcome)
            except Exception:  # one session's trouble must not cost the others their frames
                log.exception("an outcome was lost", extra={"session": outcome.session_id})


@dataclass(slots=True)
class Services:
    """The parts of the server that calls use."""

    settings: Settings
    engine: EngineInfo
    engines: EngineGroup
    router: OutcomeRouter
    registry: SessionRegistry
    media: MediaThreads
    metrics: Metrics
    lifecycle: Lifecycle
    clock: Clock
    authenticator: Authenticator
    admission: Admission
    tracer: FrameTracer | None = None
    started: float = field(init=False)  # monotonic seconds: the time of day may be set meanwhile

    def __post_init__(self) -> None:
        """Now it is ready."""
        self.started = self.clock.now()

    def visible_sessions(self, caller: Caller) -> list[Session]:
        """The sessions that a caller is told of, oldest first."""
        if self.admission.policy(caller).sees_everybody:
            return list(self.registry)
        return [each for each in self.registry if each.caller.identity == caller.identity]
