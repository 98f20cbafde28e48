"""Who looks at the page: so many at a time, each asking so often."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tilestream.access.refusals import LimitReached
from tilestream.clock import Clock

SILENT = 10.0  # seconds after which a viewer that asks for nothing is gone


class TooManyViewers(LimitReached):
    """All places are taken by people who look."""

    reason = "viewers"


@dataclass(slots=True)
class _Viewer:
    """One open page. ``asks``: what it waits for, by kind; ``due``: when its next answer of a kind may go."""

    seen: float
    asks: dict[str, asyncio.Task[object]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)


class Viewers:
    """At most ``most`` at a time. One that asks faster than it may waits: there is one answer under way."""

    def __init__(self, most: int, clock: Clock, retry_seconds: float) -> None:
        self._most, self._clock, self._retry_seconds = most, clock, retry_seconds
        self._viewers: dict[tuple[str, str], _Viewer] = {}

    def __len__(self) -> int:
        """How many look."""
        self._forget()
        return len(self._viewers)

    @asynccontextmanager
    async def turn(self, identity: str, key: str, kind: str, interval: float) -> AsyncIterator[None]:
        """The viewer's turn to get an answer of this kind, ``interval`` seconds after the last one began.

        ``key``: by which the viewer calls itself. A request of the same kind that it left alone ends.
        Raises :class:`TooManyViewers`.
        """
        viewer = self._enter(identity, key)
        task = asyncio.current_task()
        assert task is not None
        before = viewer.asks.get(kind)
        viewer.asks[kind] = task
        if before is not None:
            before.cancel()
        try:
            await self._until(viewer.due.get(kind, 0.0))
            viewer.due[kind] = self._clock.now() + interval
            yield
        finally:
            viewer.seen = self._clock.now()
            if viewer.asks.get(kind) is task:
                del viewer.asks[kind]

    async def _until(self, when: float) -> None:
        if self._clock.now() < when:
            due = asyncio.Event()
            timer = self._clock.call_at(when, due.set)
            try:
                await due.wait()
            finally:
                timer.cancel()

    def _enter(self, identity: str, key: str) -> _Viewer:
        viewer = self._viewers.get((identity, key))
        if viewer is None:
            self._forget()
            if len(self._viewers) >= self._most and not self._make_room(identity):
                message = f"{self._most} people look already, as many as may: close a page somewhere"
                raise TooManyViewers(message, self._retry_seconds)
            viewer = self._viewers[identity, key] = _Viewer(self._clock.now())
        viewer.seen = self._clock.now()
        return viewer

    def _make_room(self, identity: str) -> bool:
        """Whoever has most places gives one to an identity that has at least two fewer."""
        held = Counter(holder for holder, _ in self._viewers)
        richest = max(held, key=lambda holder: held[holder])
        if held[richest] < held[identity] + 2:
            return False
        place = min(
            (one for one in self._viewers if one[0] == richest), key=lambda one: self._viewers[one].seen
        )
        for task in self._viewers.pop(place).asks.values():
            task.cancel()
        return True

    def _forget(self) -> None:
        since = self._clock.now() - SILENT
        for place, viewer in list(self._viewers.items()):
            if viewer.seen < since and not viewer.asks:
                del self._viewers[place]
