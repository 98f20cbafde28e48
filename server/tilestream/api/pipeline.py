"""The frames of one session on their way: decode, compute, encode; overlapping, in order.

While one frame is in the engine the next is decoded and the one before is encoded, in threads
off the event loop. Frames reach the engine in their order, whichever is decoded first. All
methods run on the event loop.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from tilestream.api.frame_tap import FrameTap
from tilestream.api.media_threads import Job
from tilestream.api.services import Services
from tilestream.label_runs import LabelRuns, label_map
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import FrameLimits, picture_for
from tilestream.media.masks import MaskFormat, encode_mask, encode_png, resize_labels
from tilestream.messages import Codec, DropReason, Failure, Frame, Outcome, Picture, UInt8Array
from tilestream.scheduling.engine_loop import StepReport
from tilestream.sessions.frames import Answer, EncodedPlane, Stage, Ticket
from tilestream.sessions.inbox import Inbox, QueuePolicy
from tilestream.sessions.session import Session, SessionOptions

log = logging.getLogger(__name__)


class FramePipeline:
    """One session's frames, whichever stream serves it.

    ``on_answer`` is called whenever there is an answer to send; the stream that serves the session sets it.
    ``tap`` is told of the frames, where somebody has set it to look at them.
    """

    def __init__(self, session: Session, services: Services) -> None:
        options, settings = session.options, services.admission.settings(session.caller)
        self._session = session
        self._services = services
        self.on_answer: Callable[[], None] | None = None
        self.tap: FrameTap | None = None
        self._limits = FrameLimits(
            settings.max_frame_bytes,
            settings.max_frame_pixels,
            settings.max_frame_side,
            settings.max_decode_seconds,
        )
        self._finishing = False
        self._decoding: deque[Ticket] = deque()  # in frame order, up to the ones handed to the engine
        self._decoded: dict[int, Picture] = {}  # of these, by frame_id
        # With the engine, and the (width, height) that they were sent with.
        self._computing: dict[int, tuple[Ticket, tuple[int, int]]] = {}
        self.inbox = Inbox(options.queue_policy, options.frames_in_flight, self._withdraw)
        services.router.add(session.session_id, self._receive)

    def accept(self, ticket: Ticket, data: bytes) -> bool:
        """Take a frame in and start on it. False: there is no room, try again after an answer was sent."""
        within = self._services.admission.takes_frame(self._session.caller)
        if not (self.inbox.offer(ticket) if within else self.inbox.turn_away(ticket, _above_quota())):
            return False
        self._session.accepted(ticket.frame_id)
        self._session.silent_since = ticket.received
        self._session.stats.received += 1
        self._session.stats.bytes_received += len(data)
        self._services.metrics.frame_received(len(data))
        if not within:
            self._on_answer()
            return True
        self._services.admission.count_frame(self._session.caller)
        if self.tap is not None:
            self.tap.accepted(ticket.frame_id, data)
        self._decoding.append(ticket)
        work = partial(
            _read,
            self._services.engine.takes,
            data,
            self._limits,
            self._session.options.compute_size,
            self._services.settings.max_compute_pixels,
            self._services.settings.verify_jpegs,
        )
        ticket.on_drop = self._services.media.submit(
            work, partial(self._on_decoded, ticket), self._holder
        ).cancel
        return True

    def finish(self) -> None:
        """No more frames will be accepted: none of those that were has to wait for later ones."""
        self._finishing = True
        self._finish_if_submitted()

    def drop_unanswered(self, reason: DropReason, detail: str) -> None:
        """Give up every frame that has no answer yet."""
        for ticket in self.inbox.unanswered():
            ticket.drop(reason, detail)
        self._on_answer()

    @property
    def _holder(self) -> str:
        return self._session.caller.holder

    def close(self) -> None:
        """Stop all work of this session; what still comes for it is ignored. Idempotent."""
        self._services.router.remove(self._session.session_id)
        if self.tap is not None:
            self.tap.closed()
        self._services.metrics.frames_unanswered(len(self.inbox))
        for ticket in self.inbox.unanswered():
            ticket.drop(DropReason.SHUTDOWN)
        while len(self.inbox):
            self.inbox.pop()

    def _on_answer(self) -> None:
        if self.on_answer is not None and self.inbox.head() is not None:
            self.on_answer()

    def _withdraw(self, ticket: Ticket) -> bool:
        if not self._services.engines.withdraw(self._session.session_id, ticket.frame_id):
            return False
        self._computing.pop(ticket.frame_id, None)
        return True

    def _on_decoded(self, ticket: Ticket, job: Job[tuple[Picture, float]]) -> None:
        ticket.on_drop = None  # it refers to the job, which would keep the image until the answer is sent
        if job.cancelled or ticket.answer is not None:
            pass  # dropped meanwhile: nobody needs the image
        elif job.result is not None:
            self._decoded[ticket.frame_id], ticket.decode_seconds = job.result
        elif isinstance(job.error, BadFrame):
            ticket.fail(job.error.failure)
        else:
            log.error("decoding failed", exc_info=job.error, extra={"session": self._session.session_id})
            ticket.drop(DropReason.ENGINE_ERROR, "decoding failed")
        self._submit_in_order()
        self._on_answer()

    def _submit_in_order(self) -> None:
        """Hand frames to the scheduler, stopping at the first that is still being decoded."""
        while self._decoding:
            ticket = self._decoding[0]
            picture = self._decoded.pop(ticket.frame_id, None)
            if ticket.answer is None and picture is None:
                return
            self._decoding.popleft()
            if ticket.answer is None and picture is not None:
                self._submit(ticket, picture)
        self._finish_if_submitted()

    def _finish_if_submitted(self) -> None:
        if self._finishing and not self._decoding:
            self._services.engines.finish(self._session.session_id)

    def _submit(self, ticket: Ticket, picture: Picture) -> None:
        size = (picture.width, picture.height)
        self._session.stats.frame_size = size
        ticket.stage, ticket.submitted = Stage.SUBMITTED, self._services.clock.now()
        self._computing[ticket.frame_id] = (ticket, size)
        budget = self._session.options.block_budget or self._services.settings.block_budget
        frame = Frame(
            self._session.session_id,
            ticket.frame_id,
            picture,
            ticket.whole,
            budget,
            ticket.submitted,
            droppable=self.inbox.policy is not QueuePolicy.WAIT,
            captured=ticket.capture_time_us / 1e6 if ticket.capture_time_us else ticket.received,
            bins=self.tap is not None and self.tap.submitted(ticket.frame_id, picture),
        )
        if not self._services.engines.offer(frame):
            del self._computing[ticket.frame_id]
            ticket.drop(DropReason.ENGINE_ERROR, "the engine does not know this session")

    def _receive(self, report: StepReport | None, outcome: Outcome) -> None:
        """One of this session's frames was computed, or given up. ``report``: if its step is just over."""
        ticket, size = self._computing.pop(outcome.frame_id, (None, (0, 0)))
        if ticket is None or ticket.answer is not None:
            return
        if report is not None:
            ticket.engine_seconds = report.seconds
            self._services.metrics.frame_scheduled(report.begin - ticket.submitted)
        if outcome.failure is not None:
            ticket.fail(outcome.failure)
            self._on_answer()
            return
        if outcome.labels is None:  # they come with a later step
            self._computing[outcome.frame_id] = (ticket, size)
            return
        ticket.stage = Stage.ENCODING
        if outcome.stats is not None:
            ticket.stage_seconds = outcome.stats.stage_seconds
        if self.tap is not None:
            self.tap.computed(outcome, outcome.labels, self._session.options.output_size or size)
        work = partial(_encode, outcome, outcome.labels, self._session.options, size)
        self._services.media.submit(work, partial(self._on_encoded, ticket), self._holder)

    def _on_encoded(self, ticket: Ticket, job: Job[tuple[Answer, float]]) -> None:
        if job.result is None:
            log.error("encoding failed", exc_info=job.error, extra={"session": self._session.session_id})
            ticket.drop(DropReason.ENGINE_ERROR, "encoding failed")
        else:
            answer, ticket.encode_seconds = job.result
            ticket.resolve(answer)
        self._on_answer()


def _above_quota() -> Failure:
    return Failure.dropped(DropReason.QUOTA, "more frames per second than this caller may send")


def _read(
    takes: tuple[Codec, ...],
    data: bytes,
    limits: FrameLimits,
    compute_size: tuple[int, int] | None,
    max_compute_pixels: int,
    verify: bool,
) -> tuple[Picture, float]:
    """In a media thread: the picture as the engine wants it, and the seconds it took."""
    begin = time.monotonic()
    picture = picture_for(takes, data, limits, compute_size, max_compute_pixels, verify)
    return picture, time.monotonic() - begin


def _encode(
    outcome: Outcome,
    labels: UInt8Array | LabelRuns,
    options: SessionOptions,
    frame_size: tuple[int, int],
) -> tuple[Answer, float]:
    """In a media thread: the answer with its mask, and the seconds it took."""
    begin = time.monotonic()
    width, height = options.output_size or frame_size
    form, palette = options.mask_format, options.model.palette
    if labels.shape != (height, width):
        labels = resize_labels(label_map(labels), width, height)
    mask = encode_mask(labels, form, palette)
    confidence = None
    if options.include_confidence and outcome.confidence is not None:
        confidence = _encode_confidence(resize_labels(outcome.confidence, width, height), form)
    answer = Answer(
        mask=EncodedPlane(width, height, form, mask),
        confidence=confidence,
        stats=outcome.stats,
        bins=outcome.bins if options.include_bins else None,
    )
    return answer, time.monotonic() - begin


def _encode_confidence(plane: UInt8Array, mask_format: MaskFormat) -> EncodedPlane:
    """Gray PNG; raw where masks are raw. Runs would not suit a map that changes at every pixel."""
    form = MaskFormat.RAW if mask_format is MaskFormat.RAW else MaskFormat.PNG
    data = plane.tobytes() if form is MaskFormat.RAW else encode_png(plane, None)
    return EncodedPlane(plane.shape[1], plane.shape[0], form, data)
