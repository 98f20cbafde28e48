"""One session: its options, its states and what it may do in each."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import Enum

from tilestream.access.caller import Caller
from tilestream.media.masks import MaskFormat
from tilestream.messages import Codec, ModelInfo
from tilestream.results.wishes import Wishes
from tilestream.sessions.inbox import QueuePolicy
from tilestream.sessions.stats import SessionStats


class SessionState(Enum):
    """A session's life."""

    OPENING = "opening"  # admitted, the engine prepares its state
    ACTIVE = "active"  # takes frames
    SUSPENDED = "suspended"  # its stream was lost; finishes the frames it has and waits for another stream
    DRAINING = "draining"  # takes no more frames, answers the ones it has
    CLOSED = "closed"  # nothing is left of it


TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    SessionState.OPENING: frozenset({SessionState.ACTIVE, SessionState.CLOSED}),
    SessionState.ACTIVE: frozenset({SessionState.DRAINING, SessionState.SUSPENDED, SessionState.CLOSED}),
    SessionState.SUSPENDED: frozenset({SessionState.ACTIVE, SessionState.CLOSED}),
    SessionState.DRAINING: frozenset({SessionState.SUSPENDED, SessionState.CLOSED}),
    SessionState.CLOSED: frozenset(),
}


class CloseCause(Enum):
    """Why a session ended."""

    FINISHED = "finished"  # the client was done
    CLIENT_ERROR = "client_error"  # it broke the protocol
    DISCONNECTED = "disconnected"  # it vanished or cancelled, and did not come back in time
    IDLE = "idle"
    GAVE_WAY = "gave_way"  # it was silent while others needed its place
    MAX_AGE = "max_age"
    SHUTDOWN = "shutdown"
    ERROR = "error"  # a fault of the server


class IllegalTransition(Exception):  # noqa: N818 (the name says it)
    """A bug: a session was asked to do what its state does not allow."""


class FrameOrderError(Exception):
    """A frame_id that does not increase; the message is fit for the client."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """A session's config, checked and with every default filled in. Sizes are (width, height)."""

    camera_id: str
    model: ModelInfo
    mask_format: MaskFormat
    queue_policy: QueuePolicy
    frames_in_flight: int
    output_size: tuple[int, int] | None
    compute_size: tuple[int, int] | None
    block_budget: float | None  # None: automatic
    weight: float
    include_bins: bool
    include_confidence: bool
    max_delay: float = 0.0  # seconds
    wishes: Wishes = field(default_factory=Wishes)
    codec: Codec = Codec.JPEG
    rotation: int = 0  # degrees clockwise, before anything else is done with frames


def phase_of(camera_id: str) -> float:
    """Where a camera's session begins between two whole frames, 0..1, see ``SessionSpec``.

    Of the name alone, so that a camera's masks are the same whoever else streams; 0 without a name.
    """
    return zlib.crc32(camera_id.encode()) / 2**32


class Session:
    """A live session. ``opened`` is monotonic seconds.

    ``caller``: whose it is, over the connection that it came over last.
    """

    def __init__(
        self, session_id: str, number: int, options: SessionOptions, opened: float, caller: Caller
    ) -> None:
        self.session_id = session_id
        self.number = number  # counts up over the server's life: the order of sessions
        self.options = options
        self.caller = caller
        self.opened = opened
        self.state = SessionState.OPENING
        self.silent_since = opened  # the latest frame accepted, answer sent, or loss of its stream: monotonic
        self.last_frame_id: int | None = None  # the highest that was accepted
        self.stats = SessionStats(opened)

    def move_to(self, state: SessionState) -> None:
        """Change state. Raises :class:`IllegalTransition` for what the table above does not have."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"session {self.session_id}: {self.state.value} to {state.value}")
        self.state = state

    def check_order(self, frame_id: int) -> None:
        """Raises :class:`FrameOrderError` if a new frame's id is not above the accepted ones."""
        if self.last_frame_id is not None and frame_id <= self.last_frame_id:
            raise FrameOrderError(
                f"frame.frame_id: {frame_id} after {self.last_frame_id}; allowed: greater than the one before"
            )

    def accepted(self, frame_id: int) -> None:
        """A frame was accepted: it will be answered whatever becomes of the stream."""
        self.check_order(frame_id)
        self.last_frame_id = frame_id
