"""The bookkeeping of one stream, without I/O: which frame may go, which answer belongs to which frame.

The plain and the async stream drive this same object. It bounds what is under way, matches answers
to frames, decides when to send a sign of life and when to open a lost stream again, and says how the
stream ended. A stream may take several calls: each has a number, and what is still said by or to a call
that was given up is ignored. It does no locking.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tilestream_client.config import FrameCodec, codec_from_proto, send_window
from tilestream_client.errors import (
    MessageTooLarge,
    ProtocolError,
    ServerDraining,
    SessionClosed,
    SourceError,
    TilestreamError,
)
from tilestream_client.frames import Frame
from tilestream_client.info import Draining, Session
from tilestream_client.reconnect import BackOff, Reconnect
from tilestream_client.replay import Replay
from tilestream_client.result import FrameStatus, Result, Sent, from_proto
from tilestream_client.v1 import segmentation_pb2 as pb

_FRAME_OVERHEAD = 64  # bytes of a request around the frame's data, generously
_HEARTBEATS_PER_TIMEOUT = 3


class Step(Enum):
    """What to do where there is nothing to send or to take."""

    WAIT = "wait"
    END = "end"


@dataclass(slots=True)
class _Pending:
    """A frame that was read and has no answer yet; ``sent_at`` by the clock of the exchange."""

    frame_id: int
    frame: Frame
    data: bytes
    request: pb.StreamSegmentRequest
    sent_at: float = 0.0


class Exchange:
    """State of one stream; every method returns at once.

    At most ``window`` frames are between sending and taking, and one more is held ready to go.
    """

    def __init__(
        self,
        config: pb.SessionConfig,
        clock: Callable[[], float] = time.monotonic,
        reconnect: Reconnect | None = None,
        *,
        reordered: bool = True,
    ) -> None:
        """``reordered``: as of ``send_window``."""
        self.session: Session | None = None
        self.draining: Draining | None = None
        self.window = send_window(config, reordered=reordered)
        self.frames_sent = 0
        self.reconnects = 0  # sessions opened after a stream was lost
        self.resumes = 0  # of these, the ones in which the server went on where it was
        self._back_off = BackOff(reconnect or Reconnect(), clock)
        self._call = 0
        self._open = False  # the current call has opened a session
        self._retry_at: float | None = None
        self._last_result_id: int | None = None
        # What the server does not have: of the unanswered, and for its decoder of those before.
        self._again: deque[pb.StreamSegmentRequest] = deque()
        self._codec = FrameCodec(codec_from_proto(config.frame_codec))
        self._rotation = config.rotation
        self._replay = Replay(self._codec)
        self._reordered = reordered
        self._config = config
        self._clock = clock
        self._last_send = clock()
        self._frames_read = 0
        self._held: _Pending | None = None
        self._unanswered: deque[_Pending] = deque()
        self._results: deque[Result] = deque()
        self._source_over = False
        self._source_error: BaseException | None = None
        self._finished = False
        self._error: BaseException | None = None

    # The source's side.

    @property
    def wants_frame(self) -> bool:
        """The next frame should be read and offered now."""
        return self.session is not None and self._held is None and not self.source_unwanted

    @property
    def source_unwanted(self) -> bool:
        """No frame will be read any more."""
        ends = self.draining is not None and not self._back_off.enabled
        return self._finished or self._source_over or ends

    def offer(self, frame: Frame, data: bytes) -> None:
        """Hold a frame ready to be sent. One that cannot travel at all ends the source with an error."""
        frame_id = self._frames_read
        self._frames_read += 1
        if frame.data is None and self._codec is not FrameCodec.JPEG:
            self.source_ended(
                SourceError(f"frame {frame_id} is a picture, and the stream of {self._codec} units")
            )
            return
        limit = self.session.limits.max_message_bytes if self.session else 0
        if limit and len(data) + _FRAME_OVERHEAD > limit:
            text = f"frame {frame_id} has {len(data)} bytes, the server takes messages of {limit}"
            self.source_ended(MessageTooLarge(f"{text}; send smaller frames"))
            return
        message = pb.Frame(
            frame_id=frame_id,
            capture_time_us=round(frame.capture_time * 1e6),
            data=data,
            force_key_frame=frame.force_key_frame,
        )
        request = pb.StreamSegmentRequest(frame=message)
        self._held = _Pending(frame_id, frame, data, request)

    def source_ended(self, error: BaseException | None = None) -> None:
        """There are no more frames; ``error`` is raised to the caller after the last answer."""
        self._source_over = True
        self._source_error = error

    # The wire's side.

    def begin_again(self) -> int:
        """Another call is made now; returns its number. The first call has the number 0."""
        self._call += 1
        self._open = False
        self._retry_at = None
        self.draining = None
        return self._call

    def opening_request(self) -> pb.StreamSegmentRequest:
        """The config; always the first request of a call."""
        self._last_send = self._clock()
        config = pb.SessionConfig()
        config.CopyFrom(self._config)
        if self.session is not None:
            config.resume_token = self.session.resume_token
            if self._last_result_id is not None:
                config.last_result_id = self._last_result_id
        return pb.StreamSegmentRequest(config=config)

    def next_request(self, call: int = 0) -> pb.StreamSegmentRequest | Step:
        """What to send now; END: half-close the call."""
        if self._finished or self.draining is not None or call != self._call or self._retry_at is not None:
            return Step.END
        if not self._open:
            return Step.WAIT
        if self._again:
            self._last_send = self._clock()
            return self._again.popleft()
        if self._held is not None and len(self._unanswered) + len(self._results) < self.window:
            return self._send_held(self._held)
        if self._held is None and self._source_over:
            return Step.END
        wait = self.seconds_to_heartbeat()
        if wait is not None and wait <= 0:
            self._last_send = self._clock()
            return pb.StreamSegmentRequest(heartbeat=pb.Heartbeat(time_us=time.time_ns() // 1000))
        return Step.WAIT

    def seconds_to_heartbeat(self) -> float | None:
        """How long ``next_request`` may be left alone; None: until something happens."""
        if self.session is None or not self._open or not self.session.limits.idle_timeout:
            return None
        interval = self.session.limits.idle_timeout / _HEARTBEATS_PER_TIMEOUT
        return max(0.0, self._last_send + interval - self._clock())

    def receive(self, response: pb.StreamSegmentResponse, call: int = 0) -> None:
        """Take in what the server sent. Raises ProtocolError where it makes no sense."""
        if call != self._call or self._finished:
            return
        kind = response.WhichOneof("response")
        if kind == "result":
            self._settle(response.result)
        elif kind == "session_started":
            if self._open:
                raise ProtocolError("the server opened the session twice")
            self._start(Session.from_proto(response.session_started))
        elif kind == "draining":
            self.draining = Draining.from_proto(response.draining)
        # Heartbeats, and kinds that are newer than this client, need nothing.

    def is_open(self, call: int = 0) -> bool:
        """Whether this call is the current one and has opened a session."""
        return call == self._call and self._open

    def ended(self, error: BaseException | None = None, call: int = 0) -> None:
        """A call is over, with ``error`` or with OK: the stream too, or it is time to try again."""
        if call != self._call or self._finished:
            return
        reason = error or self._abandoned()
        if reason is not None and self._back_off.enabled and self._is_complete():
            reason = error = None  # nothing was lost with it
        if self.session is not None and reason is not None:
            self._retry_at = self._back_off.retry_at(reason, open_before=self._open)
        self._open = False
        if self._retry_at is None:
            self.finish(self._back_off.explained(error))

    def seconds_to_retry(self) -> float | None:
        """How long to wait until ``begin_again``; None: there is nothing to wait for."""
        if self._retry_at is None or self._finished:
            return None
        return max(0.0, self._retry_at - self._clock())

    def finish(self, error: BaseException | None = None) -> None:
        """The stream is over, with ``error`` or with OK. Only the first call counts."""
        if not self._finished:
            self._finished = True
            self._error = error

    @property
    def finished(self) -> bool:
        """The stream is over; results may be left to take."""
        return self._finished

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Ids of the frames that were sent and have no answer yet, in order."""
        return tuple(pending.frame_id for pending in self._unanswered)

    # The caller's side.

    def take(self) -> Result | Step:
        """The next result. END: all is said, once; then raises what went wrong if anything did."""
        if self._results:
            return self._results.popleft()
        if not self._finished:
            return Step.WAIT
        error = self._ending()
        if error is not None:
            raise error
        return Step.END

    def _send_held(self, pending: _Pending) -> pb.StreamSegmentRequest:
        self._held = None
        self._last_send = pending.sent_at = self._clock()
        self._unanswered.append(pending)
        self.frames_sent += 1
        self._replay.sent(pending.request, self._unanswered[0].frame_id)
        return pending.request

    def _start(self, session: Session) -> None:
        """A call has opened a session: the first one, or one that goes on for a lost one."""
        if self.session is not None:
            self.reconnects += 1
            self.resumes += session.resumed
        self.session = session
        self.window = send_window(session.config, reordered=self._reordered)
        self._open = True
        self._back_off.opened()
        has = session.last_frame_id if session.resumed else None
        lacks = [one.request for one in self._unanswered if has is None or one.frame_id > has]
        oldest = self._unanswered[0].frame_id if self._unanswered else self._frames_read
        begins_anew = self._replay.before(oldest, {request.frame.frame_id for request in lacks})
        self._again = deque(sorted((*begins_anew, *lacks), key=lambda request: request.frame.frame_id))

    def _is_complete(self) -> bool:
        """Every frame that was read has its answer, and there are no more."""
        return self._source_over and self._held is None and not self._unanswered

    def _settle(self, message: pb.FrameResult) -> None:
        if self.session is None or not self._open:
            raise ProtocolError("the server answered a frame before it opened the session")
        expected = self._unanswered[0].frame_id if self._unanswered else None
        if message.frame_id != expected:
            raise ProtocolError(f"the server answered frame {message.frame_id}, next in order is {expected}")
        pending = self._unanswered[0]
        latency = self._clock() - pending.sent_at
        result = from_proto(
            message,
            self.session,
            frame=pending.frame,
            sent=Sent(pending.data, self._codec, self._rotation),
            latency=latency,
        )
        if pending.frame.problem and result.status is FrameStatus.INVALID:
            result = replace(result, detail=pending.frame.problem)
        self._unanswered.popleft()
        self._results.append(result)
        self._last_result_id = pending.frame_id
        self._back_off.works()

    def _ending(self) -> BaseException | None:
        """Why the stream ended before its time; None where it did not."""
        error = self._source_error or self._error or self._abandoned()
        if isinstance(error, TilestreamError):
            error.unanswered = self.unanswered
            error.unsent = () if self._held is None else (self._held.frame_id,)
        return error

    def _abandoned(self) -> TilestreamError | None:
        """The server ended with OK; was that all right?"""
        if self._source_over and self._held is None and not self._unanswered:
            return None
        if self.draining is not None:
            wait = self.draining.retry_after
            text = f"the server ends its sessions ({self.draining.reason}); try again in {wait:g} s"
            return ServerDraining(text, retry_after=wait)
        if self._unanswered:
            left = len(self._unanswered)
            return SessionClosed(f"the server ended the stream with {left} frames unanswered")
        return SessionClosed("the server ended the stream before the source was through")
