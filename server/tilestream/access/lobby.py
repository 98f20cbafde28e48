"""Calls that have not said yet what they want: few of each connection, for a few seconds."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from tilestream.access.refusals import TooManyStreams


class Lobby:
    """``per_connection``: how many one connection may have there; ``in_all``: where that is reached the one
    that has waited longest gives way, so that nobody can keep others out.
    """

    def __init__(self, per_connection: int, in_all: int, retry_seconds: float) -> None:
        self._per_connection, self._in_all, self._retry_seconds = per_connection, in_all, retry_seconds
        self._waiting: dict[object, tuple[str, Callable[[], object]]] = {}  # the longest waiting first
        self._by_connection: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    @contextlib.contextmanager
    def wait(self, connection: str, give_way: Callable[[], object]) -> Iterator[None]:
        """Be in the lobby. ``give_way`` is called where others need the place.

        Raises :class:`TooManyStreams` where the connection has as many as it may have.
        """
        if self._by_connection[connection] >= self._per_connection:
            message = f"{self._per_connection} calls of this connection have sent no request yet"
            raise TooManyStreams(f"{message}: that is as many as there may be", self._retry_seconds)
        if len(self._waiting) >= self._in_all:
            self.clear_a_place()
        ticket = object()
        self._waiting[ticket] = (connection, give_way)
        self._by_connection[connection] += 1
        try:
            yield
        finally:
            if ticket in self._waiting:
                self._leave(ticket)

    def clear_a_place(self) -> bool:
        """Have the one that has waited longest give way. False if nobody is there."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        give_way = self._leave(oldest)
        give_way()
        return True

    def _leave(self, ticket: object) -> Callable[[], object]:
        connection, give_way = self._waiting.pop(ticket)
        self._by_connection[connection] -= 1
        if not self._by_connection[connection]:
            del self._by_connection[connection]
        return give_way
