"""Frames that the engine has seen and whose labels wait for later ones: which of them can wait no longer.

A frame waits on its camera's clock, which a file has too: the engine answers what the next frame would come
too late for. Here is what happens if no next frame comes: what its session's frames have not used up of the
delay is then counted on this server's clock, from the moment on at which there was nothing more to do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from tilestream.messages import Frame

Key = tuple[str, int]
"""A frame: its session's id and its own."""


@dataclass(slots=True)
class _Session:
    """``frames``: ids and when they were captured, oldest first. ``latest``: when its latest one was.

    ``idle_since``: monotonic seconds. ``finishing``: no more frames will come.
    """

    max_delay: float = 0.0
    frames: deque[tuple[int, float]] = field(default_factory=deque)
    latest: float = 0.0
    idle_since: float = 0.0
    finishing: bool = False

    def due_at(self, captured: float) -> float:
        """Monotonic seconds at which a frame can wait no longer."""
        if self.finishing:
            return -math.inf
        return self.idle_since + max(0.0, self.max_delay - max(0.0, self.latest - captured))


class HeldFrames:
    """Of all sessions of an engine."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def __len__(self) -> int:
        return sum(len(session.frames) for session in self._sessions.values())

    def add(self, frame: Frame, max_delay: float) -> None:
        """The labels of a frame come later."""
        session = self._sessions.setdefault(frame.session_id, _Session())
        session.max_delay = max_delay
        session.frames.append((frame.frame_id, frame.captured))

    def saw(self, frame: Frame, now: float) -> None:
        """A frame of a session was in a step that is over at monotonic seconds ``now``."""
        session = self._sessions.get(frame.session_id)
        if session is not None:
            session.latest, session.idle_since = frame.captured, now

    def used(self, frame: Frame) -> float:
        """Seconds of its session's delay that are used up once this frame is seen."""
        session = self._sessions.get(frame.session_id)
        return max(0.0, frame.captured - session.frames[0][1]) if session and session.frames else 0.0

    def remove(self, session_id: str, frame_id: int) -> None:
        """A frame has its labels."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.frames = deque(pair for pair in session.frames if pair[0] != frame_id)

    def take(self, session_id: str, before: int) -> list[Key]:
        """Those of a session before a frame, which are held no longer."""
        session = self._sessions.get(session_id)
        taken: list[Key] = []
        while session is not None and session.frames and session.frames[0][0] < before:
            taken.append((session_id, session.frames.popleft()[0]))
        return taken

    def take_all(self) -> list[Key]:
        """All, which are held no longer."""
        taken = [
            (name, frame_id) for name, session in self._sessions.items() for frame_id, _ in session.frames
        ]
        for session in self._sessions.values():
            session.frames.clear()
        return taken

    def finish(self, session_id: str) -> None:
        """No more frames of a session will come: what is held of it is due."""
        self._sessions.setdefault(session_id, _Session()).finishing = True

    def forget(self, session_id: str) -> None:
        """The session is gone. Idempotent."""
        self._sessions.pop(session_id, None)

    def due(self, now: float, busy: Container[str]) -> tuple[Key, ...]:
        """Sessions, and up to which frame they can wait no longer; none of those that are ``busy``."""
        found = []
        for name, session in self._idle(busy):
            late = [frame_id for frame_id, captured in session.frames if session.due_at(captured) <= now]
            if late:
                found.append((name, max(late)))
        return tuple(found)

    def next_due(self, busy: Container[str]) -> float:
        """Monotonic seconds at which :meth:`due` will have something next; infinite without any."""
        return min(
            (session.due_at(session.frames[0][1]) for _, session in self._idle(busy)), default=math.inf
        )

    def _idle(self, busy: Container[str]) -> list[tuple[str, _Session]]:
        pairs = self._sessions.items()
        return [(name, session) for name, session in pairs if session.frames and name not in busy]
