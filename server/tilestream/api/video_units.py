"""The access units of one session on their way through its decoder: in order, one at a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from tilestream.api.media_threads import Job, MediaThreads
from tilestream.media.video.decoder import Outcomes, Unit, VideoDecoder
from tilestream.messages import DropReason, Failure, Picture
from tilestream.sessions.frames import Stage, Ticket

log = logging.getLogger(__name__)

MAX_WAITING = 32
"""Units that wait for the decoder. More are not read, whatever the queue policy: none may be left out."""

_Result = tuple[Outcomes, set[int], float]


class VideoUnits:
    """The queue in front of a decoder. All methods run on the event loop.

    ``max_bytes``: of units that wait. ``submit``: takes a ticket and its picture, in the order in which they
    are shown. ``changed``: called after every unit; there may be failed tickets, and room.
    """

    def __init__(
        self,
        decoder: VideoDecoder,
        media: MediaThreads,
        max_bytes: int,
        submit: Callable[[Ticket, Picture], None],
        changed: Callable[[], None],
    ) -> None:
        self._decoder = decoder
        self._media = media
        self._max_bytes = max_bytes
        self._submit = submit
        self._changed = changed
        self._waiting: deque[tuple[Unit | None, str]] = deque()
        self._bytes = 0
        self._tickets: dict[int, Ticket] = {}  # that wait for their pictures, by frame_id
        self._busy = self._closed = False

    @property
    def has_room(self) -> bool:
        """Whether one more unit may wait."""
        return len(self._waiting) < MAX_WAITING and self._bytes < self._max_bytes

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to decode."""
        return not self._busy and not self._waiting

    def put(self, ticket: Ticket, data: bytes, owner: str) -> None:
        """Decode one more unit, also where nobody waits for the picture any more: later ones need it.

        ``owner``: whose share of the media threads it takes.
        """
        self._tickets[ticket.frame_id] = ticket
        self._append(Unit(ticket.frame_id, data, lambda: ticket.answer is None), owner)

    def put_again(self, frame_id: int, data: bytes, owner: str) -> None:
        """Decode a unit that had its answer in a session that this one goes on for."""
        self._append(Unit(frame_id, data), owner)

    def finish(self, owner: str) -> None:
        """No more units come, so none is waited for."""
        self._append(None, owner)

    def close(self) -> None:
        """Decode no more. Idempotent."""
        self._closed = True
        self._waiting.clear()
        self._tickets.clear()

    def _append(self, unit: Unit | None, owner: str) -> None:
        self._waiting.append((unit, owner))
        self._bytes += len(unit.data) if unit is not None else 0
        self._next()

    def _next(self) -> None:
        if self._busy or self._closed or not self._waiting:
            return
        self._busy = True
        unit, owner = self._waiting.popleft()
        self._bytes -= len(unit.data) if unit is not None else 0
        self._media.submit(partial(_decode, self._decoder, unit), partial(self._done, unit), owner)

    def _done(self, unit: Unit | None, job: Job[_Result]) -> None:
        self._busy = False
        if self._closed or job.cancelled:
            return
        if job.result is not None:
            self._take(unit, *job.result)
        else:
            log.error("decoding failed", exc_info=job.error)
            self._settle(unit, set())
        self._changed()
        self._next()

    def _take(self, unit: Unit | None, outcomes: Outcomes, held: set[int], seconds: float) -> None:
        if unit is not None and unit.frame_id in self._tickets:
            self._tickets[unit.frame_id].decode_seconds = seconds
        for frame_id, outcome in outcomes:
            ticket = self._tickets.pop(frame_id, None)
            if ticket is None or ticket.answer is not None:
                continue
            if isinstance(outcome, Failure):
                ticket.fail(outcome)
            else:
                self._submit(ticket, outcome)
        self._settle(unit, held)

    def _settle(self, unit: Unit | None, held: set[int]) -> None:
        """What has been decoded is ``held`` for later, or nobody wants it any more."""
        for frame_id, ticket in list(self._tickets.items()):
            if frame_id in held:
                ticket.stage = Stage.HELD if ticket.stage is Stage.DECODING else ticket.stage
            elif unit is None or frame_id <= unit.frame_id:
                del self._tickets[frame_id]
                ticket.drop(
                    DropReason.ENGINE_ERROR, "decoding failed"
                )  # no effect on what was dropped before


def _decode(decoder: VideoDecoder, unit: Unit | None) -> _Result:
    """In a media thread: what came of a unit, the frames that need later units first, seconds."""
    begin = time.monotonic()
    outcomes = decoder.flush() if unit is None else decoder.decode(unit)
    return outcomes, decoder.held(), time.monotonic() - begin
