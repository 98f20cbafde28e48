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
from dataclasses import replace
from functools import partial

from tilestream.api.convert import now_us
from tilestream.api.frame_tap import FrameTap
from tilestream.api.media_threads import Job
from tilestream.api.services import Services
from tilestream.api.video_units import VideoUnits
from tilestream.label_runs import LabelRuns, label_map
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import FrameLimits, picture_for
from tilestream.media.masks import MaskFormat, encode_mask, encode_png, resize_labels
from tilestream.media.rotation import swapped, turned
from tilestream.media.video.decoder import VideoDecoder, Wanted
from tilestream.media.video.limits import UnitLimits
from tilestream.messages import (
    Codec,
    DropReason,
    Failure,
    Frame,
    InvalidReason,
    Outcome,
    Picture,
    UInt8Array,
)
from tilestream.results.compute import ResultMaker
from tilestream.results.rules import RuleBook
from tilestream.scheduling.engine_loop import StepReport
from tilestream.sessions.frames import Answer, EncodedPlane, Stage, Ticket
from tilestream.sessions.inbox import MAX_REORDERED, Inbox, QueuePolicy
from tilestream.sessions.session import Session, SessionOptions

log = logging.getLogger(__name__)


class FramePipeline:
    """One session's frames, whichever stream serves it.

    ``on_answer`` is called whenever there is an answer to send, ``on_room`` when a frame that found no room
    may find some though none was sent; the stream that serves the session sets them.
    ``tap`` is told of the frames, where somebody has set it to look at them.
    """

    def __init__(self, session: Session, services: Services) -> None:
        options, settings = session.options, services.admission.settings(session.caller)
        self._session = session
        self._services = services
        self.on_answer: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.tap: FrameTap | None = None
        self._limits = FrameLimits(
            settings.max_frame_bytes,
            settings.max_frame_pixels,
            settings.max_frame_side,
            settings.max_decode_seconds,
        )
        self._finishing = False
        self._shown = 0  # pictures handed to the engine
        self._results = None if options.wishes.mask_alone else ResultMaker(options.wishes)
        self._rules = RuleBook(options.wishes.rules)
        self._epoch_us = now_us() - services.clock.now() * 1e6  # for frames without a capture time
        self._decoding: deque[Ticket] = deque()  # in frame order, up to the ones handed to the engine
        self._decoded: dict[int, Picture] = {}  # of these, by frame_id
        # With the engine, and the (width, height) that they were sent with.
        self._computing: dict[int, tuple[Ticket, tuple[int, int]]] = {}
        self._units = None if options.codec is Codec.JPEG else self._video_units()
        self.inbox = Inbox(options.queue_policy, options.frames_in_flight, self._withdraw)
        services.router.add(session.session_id, self._receive)

    def accept(self, ticket: Ticket, data: bytes) -> bool:
        """Take a frame in and start on it. False: there is no room, try again after an answer was sent."""
        if self._units is not None and not self._units.has_room:
            return False
        within = self._services.admission.takes_frame(self._session.caller)
        if not (self.inbox.offer(ticket) if within else self.inbox.turn_away(ticket, _above_quota())):
            return False
        self._session.accepted(ticket.frame_id)
        self._session.silent_since = ticket.received
        self._session.stats.received += 1
        self._session.stats.bytes_received += len(data)
        self._services.metrics.frame_received(len(data))
        if within:
            self._services.admission.count_frame(self._session.caller)
        if self._units is not None:
            self._units.put(ticket, data, self._holder)
        elif within:
            self._read_jpeg(ticket, data)
        if not within:
            self._on_answer()
        if self.tap is not None and within:
            plain = self._session.options.codec is Codec.JPEG and not self._session.options.rotation
            self.tap.accepted(ticket.frame_id, data if plain else b"")
        return True

    def decode_only(self, frame_id: int, data: bytes) -> bool:
        """Video: a unit that has its answer already and is needed for later ones. False: as with accept."""
        if self._units is None or not self._units.has_room:
            return False
        self._session.silent_since = self._services.clock.now()
        self._units.put_again(frame_id, data, self._holder)
        return True

    def _read_jpeg(self, ticket: Ticket, data: bytes) -> None:
        self._decoding.append(ticket)
        work = partial(
            _read,
            self._services.engine.takes,
            data,
            self._limits,
            self._session.options.compute_size,
            self._services.settings.max_compute_pixels,
            self._services.settings.verify_jpegs,
            self._session.options.rotation,
        )
        ticket.on_drop = self._services.media.submit(
            work, partial(self._on_decoded, ticket), self._holder
        ).cancel

    def finish(self) -> None:
        """No more frames will be accepted: none of those that were has to wait for later ones."""
        self._finishing = True
        if self._units is not None:
            self._units.finish(self._holder)
        self._finish_if_submitted()

    def next_answer(self) -> Ticket | None:
        """The ticket of the answer to send next, with its events; None where there is none yet.

        Answers become known in any order and are sent in that of the frames, which is the one that rules are
        about. Asked again, as for a stream that was lost meanwhile, it says the same.
        """
        ticket = self.inbox.head()
        if ticket is not None and ticket.events is None:
            findings = ticket.known_answer.findings
            ticket.events = ()
            if findings is not None:
                taken = ticket.capture_time_us or round(self._epoch_us + ticket.received * 1e6)
                ticket.events = self._rules.observe(findings.exceeded, taken)
        return ticket

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
        if self._units is not None:
            self._units.close()
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
        if not self._services.engines.withdraw(self._session.session_id, ticket.engine_id):
            return False
        self._computing.pop(ticket.engine_id, None)
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

    def _video_units(self) -> VideoUnits:
        services, options = self._services, self._session.options
        settings = services.admission.settings(self._session.caller)
        wanted = Wanted(options.compute_size, settings.max_compute_pixels, options.rotation)
        decoder = VideoDecoder(options.codec, UnitLimits(self._limits, settings.max_decoder_bytes), wanted)
        waiting = 2 * settings.max_frame_bytes
        return VideoUnits(decoder, services.media, waiting, self._submit, self._on_unit)

    def _on_unit(self) -> None:
        self.inbox.give_up_held(_shown_too_late())
        self._finish_if_submitted()
        self._on_answer()
        if self.on_room is not None:
            self.on_room()

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
        decoded = not self._decoding and (self._units is None or self._units.idle)
        if self._finishing and decoded:
            self._services.engines.finish(self._session.session_id)

    def _submit(self, ticket: Ticket, picture: Picture) -> None:
        size = (picture.width, picture.height)
        self._session.stats.frame_size = size
        ticket.stage, ticket.submitted = Stage.SUBMITTED, self._services.clock.now()
        # The engine counts on increasing ids; pictures of video are shown in another order than units come.
        self._shown += 1
        ticket.engine_id = ticket.frame_id if self._units is None else self._shown
        self._computing[ticket.engine_id] = (ticket, size)
        budget = self._session.options.block_budget or self._services.settings.block_budget
        frame = Frame(
            self._session.session_id,
            ticket.engine_id,
            picture,
            ticket.whole,
            budget,
            ticket.submitted,
            droppable=self.inbox.policy is not QueuePolicy.WAIT,
            captured=ticket.capture_time_us / 1e6 if ticket.capture_time_us else ticket.received,
            bins=self.tap is not None and self.tap.submitted(ticket.frame_id, picture),
        )
        if not self._services.engines.offer(frame):
            del self._computing[ticket.engine_id]
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
            self._computing[ticket.engine_id] = (ticket, size)
            return
        ticket.stage = Stage.ENCODING
        if outcome.stats is not None:
            ticket.stage_seconds = outcome.stats.stage_seconds
        if self.tap is not None:
            self.tap.computed(
                replace(outcome, frame_id=ticket.frame_id),
                outcome.labels,
                self._session.options.output_size or size,
            )
        work = partial(_encode, outcome, outcome.labels, self._session.options, size, self._results)
        self._services.media.submit(work, partial(self._on_encoded, ticket), self._holder)

    def _on_encoded(self, ticket: Ticket, job: Job[tuple[Answer, float]]) -> None:
        if job.result is None:
            log.error("encoding failed", exc_info=job.error, extra={"session": self._session.session_id})
            ticket.drop(DropReason.ENGINE_ERROR, "encoding failed")
        else:
            answer, ticket.encode_seconds = job.result
            ticket.resolve(answer)
        self._on_answer()


def _shown_too_late() -> Failure:
    text = f"its picture is shown after more than {MAX_REORDERED} later ones; encode with fewer B pictures"
    return Failure.invalid(InvalidReason.UNSUPPORTED, text)


def _above_quota() -> Failure:
    return Failure.dropped(DropReason.QUOTA, "more frames per second than this caller may send")


def _read(
    takes: tuple[Codec, ...],
    data: bytes,
    limits: FrameLimits,
    compute_size: tuple[int, int] | None,
    max_compute_pixels: int,
    verify: bool,
    rotation: int,
) -> tuple[Picture, float]:
    """In a media thread: the picture as the engine wants it, and the seconds it took."""
    begin = time.monotonic()
    if rotation:
        takes, compute_size = (), compute_size and swapped(compute_size, rotation)
    picture = picture_for(takes, data, limits, compute_size, max_compute_pixels, verify)
    return turned(picture, rotation), time.monotonic() - begin


def _encode(
    outcome: Outcome,
    labels: UInt8Array | LabelRuns,
    options: SessionOptions,
    frame_size: tuple[int, int],
    results: ResultMaker | None,
) -> tuple[Answer, float]:
    """In a media thread: the answer with all that was asked for, and the seconds it took."""
    begin = time.monotonic()
    width, height = options.output_size or frame_size
    form, palette = options.mask_format, options.model.palette
    if labels.shape != (height, width):
        labels = resize_labels(label_map(labels), width, height)
    findings = confidence = None
    if results is not None:
        runs = labels if isinstance(labels, LabelRuns) else LabelRuns.of(labels)
        findings = results.find(runs)
        labels = runs if form is MaskFormat.RLE else labels
    mask = None
    if not options.wishes.outputs.no_mask:
        mask = EncodedPlane(width, height, form, encode_mask(labels, form, palette))
    if options.include_confidence and outcome.confidence is not None:
        confidence = _encode_confidence(resize_labels(outcome.confidence, width, height), form)
    answer = Answer(
        mask=mask,
        confidence=confidence,
        stats=outcome.stats,
        bins=outcome.bins if options.include_bins else None,
        findings=findings,
    )
    return answer, time.monotonic() - begin


def _encode_confidence(plane: UInt8Array, mask_format: MaskFormat) -> EncodedPlane:
    """Gray PNG; raw where masks are raw. Runs would not suit a map that changes at every pixel."""
    form = MaskFormat.RAW if mask_format is MaskFormat.RAW else MaskFormat.PNG
    data = plane.tobytes() if form is MaskFormat.RAW else encode_png(plane, None)
    return EncodedPlane(plane.shape[1], plane.shape[0], form, data)
