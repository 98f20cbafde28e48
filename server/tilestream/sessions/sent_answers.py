"""The answers that went out last: a client that lost its stream may not have received them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Message = TypeVar("Message")


class SentAnswers(Generic[Message]):
    """The latest answers of a session in the order of their frames, bounded in number and bytes.

    An answer that was written to a stream has not been received yet, and no transport tells when it was.
    A client has a bounded number of frames under way, so the latest answers are all that can be missing.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._answers: deque[tuple[int, Message, int]] = deque()  # frame_id, message, bytes
        self._bytes = 0
        self._gone: int | None = None  # the highest frame_id whose answer is not kept any more

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def messages(self) -> list[Message]:
        """The answers that are kept, oldest first."""
        return [message for _, message, _ in self._answers]

    def add(self, frame_id: int, message: Message, size: int) -> None:
        """Keep an answer of ``size`` bytes, forgetting the oldest ones where there is no room."""
        self._answers.append((frame_id, message, size))
        self._bytes += size
        while len(self._answers) > self._max_count or self._bytes > self._max_bytes:
            self._pop()

    def confirm(self, frame_id: int) -> None:
        """The client has the answers up to ``frame_id``."""
        while self._answers and self._answers[0][0] <= frame_id:
            self._pop()

    def reaches_back_to(self, frame_id: int | None) -> bool:
        """Whether every answer after ``frame_id`` (None: every one) is kept."""
        return self._gone is None or (frame_id is not None and frame_id >= self._gone)

    def _pop(self) -> None:
        self._gone, _, size = self._answers.popleft()
        self._bytes -= size
