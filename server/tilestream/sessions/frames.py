"""A frame's way through the server: its ticket, and the answer it ends with.

pb.Frame -> Ticket -> Frame -> (engine) -> Outcome -> Answer -> pb.FrameResult; Frame and Outcome are messages
between frontend and engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tilestream.media.masks import MaskFormat
from tilestream.messages import BinAccount, DropReason, Failure, FrameStats
from tilestream.results.findings import Event, Findings


class Stage(Enum):
    """Where a frame is. It only moves forward."""

    DECODING = 1
    HELD = 2  # with a video decoder, that needs later frames to show it
    SUBMITTED = 3  # decoded and with the scheduler, or already in the engine
    ENCODING = 4
    ANSWERED = 5  # the answer is known, perhaps not yet sent


class Status(Enum):
    """What became of a frame; the API's FrameStatus has the same members."""

    OK = "ok"
    DROPPED = "dropped"  # these two as in FailureKind
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class EncodedPlane:
    """One byte per pixel, encoded: a mask or a confidence map."""

    width: int
    height: int
    form: MaskFormat
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client is told about one frame: what it asked for, or the failure that says why not."""

    failure: Failure | None = None
    mask: EncodedPlane | None = None
    confidence: EncodedPlane | None = None
    stats: FrameStats | None = None
    bins: BinAccount | None = None
    findings: Findings | None = None

    @property
    def status(self) -> Status:
        """What became of the frame."""
        return Status.OK if self.failure is None else Status(self.failure.kind.value)

    @property
    def reason_name(self) -> str:
        """The reason of a failure in one word; empty where there is none."""
        return "" if self.failure is None else self.failure.reason.value

    @property
    def encoded_bytes(self) -> int:
        """Bytes of mask and confidence map, and of findings about."""
        planes = sum(len(plane.data) for plane in (self.mask, self.confidence) if plane is not None)
        return planes + (self.findings.encoded_bytes if self.findings is not None else 0)


@dataclass(slots=True)
class Ticket:
    """A frame from its acceptance to its answer. Times are seconds; ``received`` is monotonic."""

    frame_id: int
    capture_time_us: int
    received: float
    whole: bool = False
    engine_id: int = -1  # by which the engine knows it, once it is submitted
    stage: Stage = Stage.DECODING
    answer: Answer | None = None
    submitted: float = 0.0  # to the scheduler, monotonic seconds
    decode_seconds: float = 0.0
    engine_seconds: float = 0.0
    encode_seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    on_drop: Callable[[], object] | None = None  # stops work that became useless
    made_room: bool = False  # dropped by the inbox: does not count as in flight any more
    events: tuple[Event, ...] | None = None  # None: not asked yet, which is done when its answer is next

    @property
    def known_answer(self) -> Answer:
        """Its answer, which is there: for frames that the inbox has handed out."""
        if self.answer is None:
            raise RuntimeError(f"frame {self.frame_id} has no answer yet")
        return self.answer

    def resolve(self, answer: Answer) -> bool:
        """Give the frame its answer. False if it has one already: the first one stays."""
        if self.answer is not None:
            return False
        self.answer = answer
        self.stage = Stage.ANSWERED
        return True

    def fail(self, failure: Failure) -> bool:
        """Answer without a mask. False if the frame has an answer already."""
        if not self.resolve(Answer(failure)):
            return False
        if self.on_drop is not None:
            self.on_drop()
        return True

    def drop(self, reason: DropReason, detail: str = "") -> bool:
        """Answer DROPPED. False if the frame has an answer already."""
        return self.fail(Failure.dropped(reason, detail))
