"""The sessions behind the streams: opened, suspended when their stream is lost, resumed by another, closed.

All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import logging
import secrets
from collections import Counter
from collections.abc import Callable

from tilestream.access.caller import Caller
from tilestream.api import errors
from tilestream.api.convert import stage_seconds
from tilestream.api.pipeline import FramePipeline
from tilestream.api.services import Services
from tilestream.clock import Timer
from tilestream.messages import Codec, SessionSpec
from tilestream.scheduling.rhythm import REFRESH
from tilestream.sessions.frames import Ticket
from tilestream.sessions.registry import QuotaUsedUp, TooManyDecoders, TooManySessions
from tilestream.sessions.sent_answers import SentAnswers
from tilestream.sessions.session import CloseCause, Session, SessionOptions, SessionState, phase_of
from tilestream.v1 import segmentation_pb2 as pb

log = logging.getLogger(__name__)

_TOKEN_BYTES = 32
# Clients have frames_in_flight frames under way, with a policy that drops some more. One that has yet more
# loses nothing: it gets a new session where answers are missing.
_CLIENT_HEADROOM = 16
_KEPT_BYTES = 8 << 20
# Options that have another name in the config.
_FIELDS = {
    "mask_format": "mask_encoding",
    "codec": "frame_codec",
    "max_delay": "max_delay_ms",
    "wishes": "outputs, config.regions or config.rules",
}


class LiveSession:
    """A session and what of it outlives its stream.

    ``take_over`` ends the stream that serves it, and so does ``give_way``, since its place is taken away;
    both are None where there is none. ``free`` is set when that is over.
    """

    def __init__(self, session: Session, services: Services) -> None:
        self.session = session
        self._metrics, self._clock = services.metrics, services.clock
        self.token = secrets.token_bytes(_TOKEN_BYTES)
        self.pipeline = FramePipeline(session, services)
        kept = session.options.frames_in_flight + _CLIENT_HEADROOM if services.settings.resume_ttl else 0
        self.sent: SentAnswers[pb.StreamSegmentResponse] = SentAnswers(kept, _KEPT_BYTES)
        self.take_over: Callable[[], None] | None = None
        self.give_way: Callable[[], None] | None = None
        self.free = asyncio.Event()
        self.expiry: Timer | None = None  # while it is suspended

    def confirm(self, frame_id: int) -> None:
        """The client has the results up to ``frame_id``, the one whose sending was cut short too."""
        self.sent.confirm(frame_id)
        inbox = self.pipeline.inbox
        while (ticket := inbox.head()) is not None and ticket.frame_id <= frame_id:
            inbox.pop()
            self.count(ticket, self._clock.now() - ticket.received)

    def count(self, ticket: Ticket, total: float) -> dict[str, float]:
        """A frame has its answer, ``total`` seconds after it came; the seconds that its stages took."""
        answer, stages = ticket.known_answer, stage_seconds(ticket, total)
        self.session.stats.add(answer, total, self._clock.now())
        self._metrics.frame_answered(
            answer.status.value, answer.reason_name, total, stages, answer.stats, answer.encoded_bytes
        )
        return stages


class LiveSessions:
    """All sessions that are open, with or without a stream."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._by_token: dict[
            bytes, LiveSession
        ] = {}  # by the token's digest: lookup times tell nothing of it
        self._live: dict[str, LiveSession] = {}  # by session_id, oldest first
        self._suspended: dict[str, LiveSession] = {}  # by session_id, the longest suspended first

    def find(self, session_id: str) -> LiveSession | None:
        """The session of that name; None: it is over, or never was."""
        return self._live.get(session_id)

    async def open(self, options: SessionOptions, caller: Caller) -> LiveSession:
        """A new session, ACTIVE. One that is not in use gives way where all places are taken.

        Raises what :meth:`SessionRegistry.admit` raises, and EngineError.
        """
        services = self._services
        self._make_room(caller)
        if options.codec is not Codec.JPEG:
            self._check_decoders()
        session = services.registry.open(options, caller)
        services.metrics.session_opened()
        log.info("session opened", extra={"session": session.session_id, "camera": options.camera_id})
        live = self._live[session.session_id] = LiveSession(session, services)
        spec = SessionSpec(
            session.session_id,
            options.model.name,
            weight=options.weight,
            confidence=options.include_confidence,
            bins=options.include_bins,
            phase=phase_of(options.camera_id),
            owner=caller.identity,
            owner_weight=services.admission.policy(caller).weight,
            refreshes=options.model.gate == REFRESH,
            max_delay=options.max_delay,
        )
        try:
            await asyncio.wrap_future(services.engines.open(spec))
        except BaseException as problem:
            gone = isinstance(problem, asyncio.CancelledError)
            self._close(live, CloseCause.DISCONNECTED if gone else CloseCause.ERROR)
            raise
        session.move_to(SessionState.ACTIVE)
        self._by_token[_digest(live.token)] = live
        return live

    async def resume(
        self, token: bytes, last_result_id: int | None, options: SessionOptions, caller: Caller
    ) -> LiveSession | None:
        """The session of a token, ACTIVE again; None where it cannot go on.

        Ends a stream that still serves it. Raises INVALID_ARGUMENT where ``options`` are not the session's,
        QuotaUsedUp where the caller is another connection's that has as many sessions as it may have.
        """
        live = self._by_token.get(_digest(token))
        if live is None or not hmac.compare_digest(live.session.caller.owner, caller.owner):
            return None
        if live.session.caller.holder != caller.holder:
            self._services.registry.check_quota(caller)
        _check_unchanged(options, live.session.options)
        while live.take_over is not None:
            live.take_over()
            await live.free.wait()
        if live.session.state is not SessionState.SUSPENDED:
            return None  # its end came first
        if not live.sent.reaches_back_to(last_result_id):
            self._close(live, CloseCause.DISCONNECTED)
            return None
        if last_result_id is not None:
            live.confirm(last_result_id)
        self._stop_waiting(live)
        live.session.caller = caller
        live.session.silent_since = self._services.clock.now()
        live.session.move_to(SessionState.ACTIVE)
        self._services.metrics.session_resumed()
        log.info("session resumed", extra={"session": live.session.session_id})
        return live

    def leave(self, live: LiveSession, cause: CloseCause, *, lost: bool) -> None:
        """The stream of a session is over. Where it was ``lost`` the session waits for another one."""
        live.take_over = live.give_way = None
        live.pipeline.on_answer = live.pipeline.on_room = None
        live.free.set()
        ttl = self._services.settings.resume_ttl
        if live.session.state is SessionState.CLOSED:  # it gave way
            return
        if not (lost and ttl) or self._services.lifecycle.draining.is_set():
            self._close(live, cause)
            return
        live.session.move_to(SessionState.SUSPENDED)
        session_id = live.session.session_id
        self._suspended[session_id] = live
        live.session.silent_since = self._services.clock.now()
        self._services.metrics.sessions_suspended(len(self._suspended))
        clock = self._services.clock
        live.expiry = clock.call_at(clock.now() + ttl, self._close, live, CloseCause.DISCONNECTED)
        log.info("session suspended", extra={"session": session_id, "seconds": ttl})

    def close_suspended(self) -> None:
        """The server shuts down: nobody will come back to it."""
        for live in list(self._suspended.values()):
            self._close(live, CloseCause.SHUTDOWN)

    def _make_room(self, caller: Caller) -> None:
        """Have a session that is not in use give way, where nothing but that keeps the caller from one."""
        try:
            self._services.registry.admit(caller)
        except TooManySessions:
            idle = self._who_gives_way(caller)
            if idle is None:
                raise
        except QuotaUsedUp:
            own = [live for live in self._suspended.values() if live.session.caller.holder == caller.holder]
            if not own or self._services.admission.policy(caller).sessions is not None:
                raise  # a quota that somebody has set counts suspended ones, too
            idle = own[0]
        else:
            return
        self._close(idle, CloseCause.GAVE_WAY)

    def _check_decoders(self) -> None:
        """Raises :class:`TooManyDecoders` where another session may not have one."""
        settings = self._services.settings
        taken = sum(live.session.options.codec is not Codec.JPEG for live in self._live.values())
        if taken >= settings.max_video_sessions:
            message = f"all {taken} decoders of video are taken; send JPEGs, or come again"
            raise TooManyDecoders(message, settings.retry_delay)

    def _who_gives_way(self, caller: Caller) -> LiveSession | None:
        """The longest silent session of whoever has most sessions, so that nobody can sit on all places.

        Those of callers that have no more than this one are left alone; one whose stream is lost gives way to
        whoever has no more than its own caller, too.
        """
        held = Counter(live.session.caller.holder for live in self._live.values())
        mine, now = held[caller.holder], self._services.clock.now()

        def rank(live: LiveSession) -> tuple[int, bool, float]:
            suspended = live.session.state is SessionState.SUSPENDED
            return held[live.session.caller.holder], suspended, now - live.session.silent_since

        def gives_way(live: LiveSession) -> bool:
            others, suspended, silent = rank(live)
            timeout = self._services.settings.silence_timeout
            if live.session.state is SessionState.OPENING:
                return False
            if suspended:
                return others >= mine
            return 0 < timeout <= silent and others > mine and not live.pipeline.inbox.unanswered()

        return max(filter(gives_way, self._live.values()), key=rank, default=None)

    def _stop_waiting(self, live: LiveSession) -> None:
        if live.expiry is not None:
            live.expiry.cancel()
            live.expiry = None
        if self._suspended.pop(live.session.session_id, None) is not None:
            self._services.metrics.sessions_suspended(len(self._suspended))

    def _close(self, live: LiveSession, cause: CloseCause) -> None:
        self._stop_waiting(live)
        self._by_token.pop(_digest(live.token), None)
        self._live.pop(live.session.session_id, None)
        if live.give_way is not None and cause is CloseCause.GAVE_WAY:
            live.give_way()
        live.pipeline.close()
        self._services.engines.release(live.session.session_id)
        self._services.registry.close(live.session, cause)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _check_unchanged(asked: SessionOptions, opened: SessionOptions) -> None:
    for field in dataclasses.fields(SessionOptions):
        if getattr(asked, field.name) != getattr(opened, field.name):
            name = _FIELDS.get(field.name, field.name)
            allowed = "what the session was opened with, or no resume_token"
            raise errors.invalid_argument(
                f"config.{name}", "differs from the session that is resumed", allowed
            )
