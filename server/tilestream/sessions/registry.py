"""All live sessions, and who is let in."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

from tilestream.access.caller import Caller
from tilestream.access.refusals import LimitReached
from tilestream.sessions.session import CloseCause, Session, SessionOptions, SessionState


class NotAdmitted(LimitReached):
    """A session that cannot be had now."""


class QuotaUsedUp(NotAdmitted):
    """The caller has as many sessions as it may have; that others end theirs would not help."""

    reason = "quota"


class TooManySessions(NotAdmitted):
    """All places are taken."""

    reason = "full"


class TooManyDecoders(NotAdmitted):
    """All decoders of video are taken."""

    reason = "decoders"


class ServerOverloaded(NotAdmitted):
    """The server cannot keep up with the sessions that it has."""

    reason = "overloaded"


class ServerDraining(NotAdmitted):
    """The server shuts down."""

    reason = "shutdown"


class SessionRegistry:
    """The live sessions of this server, oldest first. Used from one thread.

    ``on_close(session, cause)`` is called once for every session that ends. ``overloaded`` tells whether the
    server cannot keep up with the sessions that it has, ``most`` how many a caller may have.
    """

    def __init__(
        self,
        max_sessions: int,
        retry_seconds: float,
        on_close: Callable[[Session, CloseCause], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        overloaded: Callable[[], bool] = lambda: False,
        most: Callable[[Caller], int] | None = None,
    ) -> None:
        self.max_sessions = max_sessions
        self.draining = False
        self._retry_seconds = retry_seconds
        self._on_close = on_close
        self._clock = clock
        self._overloaded = overloaded
        self._most = most or (lambda _: max_sessions)
        self._sessions: dict[str, Session] = {}
        self._opened = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def held(self, caller: Caller) -> int:
        """How many sessions the caller has."""
        return sum(session.caller.holder == caller.holder for session in self._sessions.values())

    def admit(self, caller: Caller) -> None:
        """Raise a :class:`NotAdmitted` if the caller can open no session now; NotAllowed if it never can."""
        self.admit_anybody()
        self.check_quota(caller)
        # Last: for this reason, and no other, a session that is not in use may have to give way.
        if len(self._sessions) >= self.max_sessions:
            raise TooManySessions(f"all {self.max_sessions} sessions are taken", self._retry_seconds)

    def check_quota(self, caller: Caller) -> None:
        """Raise :class:`QuotaUsedUp` if the caller has as many as it may have, fewer than there are."""
        most = self._most(caller)
        if most < self.max_sessions and self.held(caller) >= most:
            whose = f"identity {caller.identity!r}" if caller.identity else "connection"
            message = f"this {whose} has {most} sessions, as many as it may have"
            raise QuotaUsedUp(message, self._retry_seconds)

    def admit_anybody(self) -> None:
        """Raise a :class:`NotAdmitted` if nobody can open a session now, whoever it is."""
        if self.draining:
            raise ServerDraining("the server is shutting down", self._retry_seconds)
        if self._overloaded():
            message = "the server cannot keep up with the sessions that it has; try again later, or elsewhere"
            raise ServerOverloaded(message, self._retry_seconds)

    def open(self, options: SessionOptions, caller: Caller) -> Session:
        """A new session in state OPENING. Raises what :meth:`admit` raises."""
        self.admit(caller)
        self._opened += 1
        session_id = f"s-{secrets.token_hex(6)}"
        session = Session(session_id, self._opened, options, self._clock(), caller)
        self._sessions[session_id] = session
        return session

    def close(self, session: Session, cause: CloseCause) -> None:
        """End a session. Idempotent."""
        if self._sessions.pop(session.session_id, None) is None:
            return
        session.move_to(SessionState.CLOSED)
        if self._on_close is not None:
            self._on_close(session, cause)
