"""The loops of an open session: read frames, write answers, watch the clock.

Reading ends for one reason (the client is done, broke the protocol or is silent; the session is
too old; the server shuts down). Then what was accepted is still answered, and only then the
stream ends with the status of that reason. A stream that is lost or taken over ends at once: its
session goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tilestream.api import errors
from tilestream.api.convert import now_us, result_response
from tilestream.api.live_sessions import LiveSession
from tilestream.api.services import Services
from tilestream.clock import Timer
from tilestream.messages import Codec, DropReason
from tilestream.sessions.frames import Ticket
from tilestream.sessions.session import CloseCause, FrameOrderError, SessionState
from tilestream.v1 import segmentation_pb2 as pb

_TICK = 0.25  # seconds between looks at the clock while the last answers go out


@dataclass(frozen=True, slots=True)
class End:
    """Why a stream ends; ``error`` is its status, None for OK. ``lost``: the session could go on."""

    cause: CloseCause
    error: Exception | None = None
    lost: bool = False


LOST = End(CloseCause.DISCONNECTED, lost=True)


class SessionStream:
    """One open session over one gRPC stream. ``greeting``: what the client is told first."""

    def __init__(
        self,
        services: Services,
        live: LiveSession,
        context: grpc.aio.ServicerContext,
        greeting: pb.SessionStarted,
    ) -> None:
        self._services = services
        self._clock = services.clock
        self._live = live
        self._session = live.session
        self._greeting = greeting
        self._context = context
        self._wake = asyncio.Event()  # the writer has something to do
        self._room = asyncio.Event()  # an answer went out
        self._ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()  # by others
        self._notices: deque[pb.DrainingNotice] = deque()
        self._again = deque(live.sent.messages)  # results that the last stream may have lost
        self._finishing = False
        self._last_read = self._clock.now()
        self._last_write = self._last_read
        self._last_begun = self._last_read  # the last write that is over: it may have been cut meanwhile
        self._last_answer = self._last_read
        self._write_begin: float | None = None  # while a write is on its way
        self._alarm: Timer | None = None  # wakes the writer when a heartbeat may be due
        self._tracer = services.tracer
        self._trace = self._tracer.parent(context.invocation_metadata()) if self._tracer else None
        self._pipeline = live.pipeline
        live.pipeline.on_answer = self._wake.set
        live.pipeline.on_room = self._room.set
        self._sent_again: int | None = None  # the latest frame_id that was decode_only
        live.take_over = partial(self._end, End(CloseCause.DISCONNECTED, _taken_over(), lost=True))
        live.give_way = partial(self._end, End(CloseCause.GAVE_WAY, _gave_way(services)))
        live.free.clear()

    async def run(self) -> End:
        """Serve the session to its end, all answers sent, or until the stream is lost."""
        try:
            # Never cancelled: gRPC would send the initial metadata again with the status, and fail at that.
            await self._write(pb.StreamSegmentResponse(session_started=self._greeting))
        except grpc.aio.BaseError:
            return End(CloseCause.DISCONNECTED, lost=self._greeting.resumed)  # else nobody has the token
        serving = asyncio.ensure_future(self._serve())
        try:
            await asyncio.wait((serving, self._ended), return_when=asyncio.FIRST_COMPLETED)
            return self._ended.result() if self._ended.done() else serving.result()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    def _end(self, end: End) -> None:
        """Serve no more: the session goes on elsewhere, or nowhere."""
        if not self._ended.done():
            self._ended.set_result(end)

    async def _serve(self) -> End:
        reading = asyncio.ensure_future(self._read_loop())
        watching = asyncio.ensure_future(self._watch())
        writing = asyncio.ensure_future(self._write_loop())
        tasks = (reading, watching, writing)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            end = _first_end(watching, reading, writing)
            if end.lost:
                return end
            reading.cancel()
            watching.cancel()
            self._session.move_to(SessionState.DRAINING)
            return await self._finish(writing, end)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, writing: asyncio.Task[None], end: End) -> End:
        """Let the writer send what is left, within the server's grace and while the client reads."""
        self._finishing = True
        self._pipeline.finish()
        self._wake.set()
        while not writing.done():
            now = self._clock.now()
            if self._services.lifecycle.overdue():
                self._pipeline.drop_unanswered(DropReason.SHUTDOWN, "the server's grace period is over")
            if self._stalled(now):
                return End(CloseCause.IDLE, self._stall_error())
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout_at(now + _TICK):
                    await asyncio.wait({writing})
        return LOST if _lost(writing) else end

    # Reading

    async def _read_loop(self) -> End:
        while True:
            try:
                request = await self._context.read()
                self._last_read = self._clock.now()
                if request is grpc.aio.EOF:
                    return End(CloseCause.FINISHED)
                await self._on_request(request)
            except (errors.ApiError, FrameOrderError, DecodeError) as error:
                return End(CloseCause.CLIENT_ERROR, error)

    async def _on_request(self, request: pb.StreamSegmentRequest) -> None:
        kind = request.WhichOneof("request")
        if kind == "config":
            raise errors.invalid_argument("config", "sent twice", "once, as the first request of a stream")
        if kind is None:
            raise errors.invalid_argument("request", "empty", "frame or heartbeat")
        if kind == "frame":
            await self._on_frame(request.frame)

    async def _on_frame(self, frame: pb.Frame) -> None:
        if frame.decode_only:
            await self._on_sent_again(frame)
            return
        self._session.check_order(frame.frame_id)
        ticket = Ticket(frame.frame_id, frame.capture_time_us, self._last_read, frame.force_key_frame)
        while not self._pipeline.accept(ticket, frame.data):
            self._wake.set()  # frames may have been dropped to make room
            self._room.clear()
            await self._room.wait()
        if self._pipeline.inbox.head() is not None:  # frames may have been dropped to make room
            self._wake.set()

    async def _on_sent_again(self, frame: pb.Frame) -> None:
        """A unit that has its answer, for the decoder of a session that goes on elsewhere."""
        if self._session.options.codec is Codec.JPEG:
            raise errors.invalid_argument("frame.decode_only", "set for a JPEG", "for video codecs only")
        if self._sent_again is not None and frame.frame_id <= self._sent_again:
            text = f"frame.frame_id: {frame.frame_id} after {self._sent_again}, both decode_only"
            raise FrameOrderError(f"{text}; allowed: greater than the one before")
        self._sent_again = frame.frame_id
        while not self._pipeline.decode_only(frame.frame_id, frame.data):
            self._room.clear()
            await self._room.wait()

    # Writing

    async def _write_loop(self) -> None:
        try:
            while await self._write_next():
                pass
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    async def _write_next(self) -> bool:
        """Write something, or wait until there is something to do. False when all is written."""
        self._wake.clear()
        ticket = self._pipeline.next_answer()
        if self._notices:
            await self._write(pb.StreamSegmentResponse(draining=self._notices.popleft()))
        elif self._again:
            await self._write(self._again.popleft())
        elif ticket is not None:
            await self._write_answer(ticket)
        elif self._finishing and not len(self._pipeline.inbox):
            if self._last_begun < self._last_read:
                await self._write_heartbeat()  # a lost stream ends like a finished one: this fails there
            return False
        elif self._clock.now() >= self._heartbeat_at:
            await self._write_heartbeat()
        else:
            self._set_alarm()
            await self._wake.wait()
        return True

    @property
    def _heartbeat_at(self) -> float:
        return self._last_write + (self._services.settings.heartbeat_interval or math.inf)

    def _set_alarm(self) -> None:
        """Have the writer woken for a heartbeat. One that rings too early is cheaper than one per write."""
        if self._alarm is None and self._heartbeat_at < math.inf:
            self._alarm = self._clock.call_at(self._heartbeat_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()

    async def _write_answer(self, ticket: Ticket) -> None:
        answer, total = ticket.known_answer, self._clock.now() - ticket.received
        response = result_response(ticket, answer, total)
        await self._write(response)
        self._pipeline.inbox.pop()
        self._live.sent.add(ticket.frame_id, response, answer.encoded_bytes)
        self._room.set()
        self._last_answer = self._session.silent_since = self._clock.now()
        stages = self._live.count(ticket, total)
        if self._tracer is not None:
            self._tracer.frame(
                self._trace,
                self._session.session_id,
                ticket.frame_id,
                answer.status.value,
                answer.reason_name,
                total,
                stages,
            )

    async def _write_heartbeat(self) -> None:
        await self._write(pb.StreamSegmentResponse(heartbeat=pb.Heartbeat(time_us=now_us())))

    async def _write(self, response: pb.StreamSegmentResponse) -> None:
        self._write_begin = begun = self._clock.now()
        await self._context.write(response)
        self._write_begin = None
        self._last_begun, self._last_write = begun, self._clock.now()

    # The clock

    async def _watch(self) -> End:
        """Wait for a reason that is not the client's to end the session, and tell it before."""
        settings, draining = self._services.settings, self._services.lifecycle.draining
        age_end = self._session.opened + (settings.max_session_age or math.inf)
        age_notice = age_end - settings.max_age_notice
        while True:
            now = self._clock.now()
            if now >= age_end:
                return End(CloseCause.MAX_AGE, errors.unavailable("the session reached its age limit", 0.0))
            if now >= age_notice:
                self._notify(pb.DRAIN_REASON_MAX_AGE, age_end - now, 0.0)
                age_notice = math.inf
            if self._stalled(now):
                return End(CloseCause.IDLE, self._stall_error())
            idle_end = self._idle_end(now)
            if now >= idle_end:
                message = f"no request for {settings.idle_timeout:g} s"
                return End(CloseCause.IDLE, errors.deadline_exceeded(message))
            try:
                async with self._clock.timeout_at(min(age_end, age_notice, idle_end, self._stall_end())):
                    await draining.wait()
            except TimeoutError:
                continue
            self._notify(pb.DRAIN_REASON_SHUTDOWN, self._services.lifecycle.remaining(), settings.retry_delay)
            error = errors.unavailable("the server is shutting down", settings.retry_delay)
            return End(CloseCause.SHUTDOWN, error)

    def _notify(self, reason: Any, grace: float, retry_delay: float) -> None:
        self._notices.append(
            pb.DrainingNotice(
                reason=reason, grace_ms=round(grace * 1000), retry_delay_ms=round(retry_delay * 1000)
            )
        )
        self._wake.set()

    def _idle_end(self, now: float) -> float:
        """When the session has idled for too long. Work that is under way is not idleness."""
        timeout = self._services.settings.idle_timeout
        if not timeout:
            return math.inf
        busy = len(self._pipeline.inbox) > 0
        return (now if busy else max(self._last_read, self._last_answer)) + timeout

    def _stall_end(self) -> float:
        """When a write has taken too long: the client does not read."""
        timeout = self._services.settings.idle_timeout
        if not timeout:
            return math.inf
        return (self._write_begin if self._write_begin is not None else self._clock.now()) + timeout

    def _stalled(self, now: float) -> bool:
        return now >= self._stall_end()

    def _stall_error(self) -> errors.ApiError:
        return errors.deadline_exceeded(
            f"no answer could be sent for {self._services.settings.idle_timeout:g} s: "
            "the client does not read the stream's responses"
        )


def _taken_over() -> errors.ApiError:
    return errors.aborted("another stream resumed this session")


def _gave_way(services: Services) -> errors.ApiError:
    settings = services.settings
    message = (
        f"all places are taken and this session was silent for {settings.silence_timeout:g} s: "
        "somebody who has fewer sessions got its place"
    )
    return errors.unavailable(message, settings.retry_delay)


def _first_end(watching: asyncio.Task[End], reading: asyncio.Task[End], writing: asyncio.Task[None]) -> End:
    """The reason that came first. The writer only ends first if the client is gone."""
    for task in (watching, reading):
        if task.done() and not _lost(task):
            return task.result()
    if writing.done():
        _lost(writing)
    return LOST


def _lost(task: asyncio.Task[Any]) -> bool:
    """Whether a loop ended because the client is gone. Raises what is not the transport's doing."""
    problem = None if task.cancelled() else task.exception()
    if problem is not None and not isinstance(problem, grpc.aio.BaseError):
        raise problem
    return task.cancelled() or problem is not None
