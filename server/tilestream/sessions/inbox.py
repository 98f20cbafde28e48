"""The bounded inbox of a session: which frames are unanswered, and who makes room for a new one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from tilestream.messages import DropReason, Failure
from tilestream.sessions.frames import Stage, Ticket

MAX_REORDERED = 16  # frames above the limit that are taken while the next answer needs them
MAX_UNSENT = 256  # answers (nearly all of them "dropped") that may wait for a client that does not read


class QueuePolicy(Enum):
    """What happens to a new frame when the inbox is full; the API's enum has the same members."""

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    LATEST_ONLY = "latest_only"


class Inbox:
    """The unanswered frames of one session, in the order in which they have to be answered.

    ``limit``: how many may be in flight, that is accepted, not dropped and not yet sent. A policy
    that drops needs a place to wait beside the frame that is being computed, so it gets 2 at least.
    ``withdraw(ticket)``: take a decoded frame back from the scheduler; False if the engine has it.
    """

    def __init__(self, policy: QueuePolicy, limit: int, withdraw: Callable[[Ticket], bool]) -> None:
        self.policy = policy
        self.limit = effective_limit(policy, limit)
        self._withdraw = withdraw
        self._tickets: deque[Ticket] = deque()
        self._in_flight = 0

    def __len__(self) -> int:
        """Frames without a sent answer, dropped ones included."""
        return len(self._tickets)

    @property
    def in_flight(self) -> int:
        """Frames that count against the limit."""
        return self._in_flight

    def offer(self, ticket: Ticket) -> bool:
        """Take a new frame in, dropping others if the policy says so. False: it has to wait."""
        if len(self._tickets) >= MAX_UNSENT:
            return False
        if self.policy is QueuePolicy.LATEST_ONLY:
            superseded = Failure.dropped(DropReason.SUPERSEDED, f"frame {ticket.frame_id} is newer")
            for old in list(self._tickets):
                self._make_room(old, superseded)
        elif self.policy is QueuePolicy.DROP_OLDEST and self._in_flight >= self.limit:
            full = Failure.dropped(DropReason.QUEUE_FULL, f"{self.limit} frames in flight")
            any(self._make_room(old, full) for old in list(self._tickets))
        if self._in_flight >= self.limit and not (self._starves() and self._has_spare_room()):
            return False
        self._tickets.append(ticket)
        self._in_flight += 1
        return True

    def turn_away(self, ticket: Ticket, failure: Failure) -> bool:
        """Answer a new frame in its turn without doing anything for it. False: it has to wait."""
        if len(self._tickets) >= MAX_UNSENT:
            return False
        ticket.fail(failure)
        ticket.made_room = True
        self._tickets.append(ticket)
        return True

    def give_up_held(self, failure: Failure) -> bool:
        """Fail the frame whose answer is next, if it needs more later frames than are taken."""
        return self._starves() and not self._has_spare_room() and self._tickets[0].fail(failure)

    def _starves(self) -> bool:
        """All frames are decoded, and the next answer is of a picture that needs yet later ones."""
        if not self._tickets or self._tickets[-1].stage is Stage.DECODING:
            return False
        return self._tickets[0].stage is Stage.HELD

    def _has_spare_room(self) -> bool:
        return len(self._tickets) < self.limit + MAX_REORDERED

    def head(self) -> Ticket | None:
        """The frame that is answered next, if it has its answer."""
        if self._tickets and self._tickets[0].answer is not None:
            return self._tickets[0]
        return None

    def pop(self) -> None:
        """The head's answer was sent."""
        if not self._tickets.popleft().made_room:
            self._in_flight -= 1

    def unanswered(self) -> list[Ticket]:
        """Frames without an answer, oldest first."""
        return [ticket for ticket in self._tickets if ticket.answer is None]

    def _make_room(self, ticket: Ticket, failure: Failure) -> bool:
        """Drop a frame. False if it does not wait any more."""
        waiting = ticket.stage is Stage.DECODING or (
            ticket.stage is Stage.SUBMITTED and self._withdraw(ticket)
        )
        if not waiting or not ticket.fail(failure):
            return False
        ticket.made_room = True
        self._in_flight -= 1
        return True


def effective_limit(policy: QueuePolicy, limit: int) -> int:
    """Frames in flight that a policy really allows."""
    return limit if policy is QueuePolicy.WAIT else max(2, limit)
