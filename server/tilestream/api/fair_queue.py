"""A queue between threads in which nobody waits behind all that another has sent."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Turn(Generic[T]):
    """What one owner has waiting. ``used``: seconds that its entries took, on the queue's virtual clock."""

    used: float
    waiting: deque[T] = field(default_factory=deque)


class FairQueue(Generic[T]):
    """Hands out the oldest entry of the owner that has had least time. All methods from any thread."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn[T]] = {}  # of owners with something waiting or being done
        self._busy: dict[str, int] = {}
        self._now = 0.0  # the least time that an owner has had
        self._ready = threading.Condition()
        self._closed = False

    def put(self, owner: str, entry: T) -> None:
        """Add an entry. An owner that had none waiting begins at the present: idleness saves nothing up."""
        with self._ready:
            turn = self._turns.get(owner)
            if turn is None:
                turn = self._turns[owner] = _Turn(self._now)
            turn.waiting.append(entry)
            self._ready.notify()

    def get(self) -> tuple[str, T] | None:
        """Wait for an entry; its owner and it. None after :meth:`close`."""
        with self._ready:
            while not self._closed:
                waiting = [(turn.used, owner) for owner, turn in self._turns.items() if turn.waiting]
                if waiting:
                    self._now, owner = min(waiting)
                    self._busy[owner] = self._busy.get(owner, 0) + 1
                    return owner, self._turns[owner].waiting.popleft()
                self._ready.wait()
        return None

    def took(self, owner: str, seconds: float) -> None:
        """What :meth:`get` gave was done in so many seconds."""
        with self._ready:
            turn = self._turns[owner]
            turn.used += seconds
            self._busy[owner] -= 1
            if not self._busy[owner]:
                del self._busy[owner]
                if not turn.waiting:
                    del self._turns[owner]

    def close(self) -> list[T]:
        """Hand out no more; what waits."""
        with self._ready:
            self._closed = True
            left = [entry for turn in self._turns.values() for entry in turn.waiting]
            for turn in self._turns.values():
                turn.waiting.clear()
            self._ready.notify_all()
        return left
