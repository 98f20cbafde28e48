"""The connections of browsers: so many at a time, and each has to ask for something soon.

aiohttp waits for ever for the first request of a connection and for the end of one that comes byte by byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tilestream.clock import Clock, Timer

PATIENCE = 15.0  # seconds that a connection may take to ask for something


class Connections:
    """Makes the protocols of a listening socket; ``make`` those of aiohttp. At most ``most`` at a time."""

    def __init__(self, make: Callable[[], asyncio.Protocol], most: int, clock: Clock) -> None:
        self._make, self._most, self._clock = make, most, clock
        self._open: dict[asyncio.BaseTransport, Timer | None] = {}  # and when its patience ends

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def protocol(self) -> asyncio.Protocol:
        """For one more connection."""
        return _Counted(self._make(), self)

    def asks(self, transport: asyncio.BaseTransport | None) -> None:
        """A whole request came; until its answer is there, others watch the time."""
        if transport in self._open:
            self._stop(transport)

    def answered(self, transport: asyncio.BaseTransport | None) -> None:
        """The next request has to come soon."""
        if transport in self._open:
            self._wait(transport)

    def opened(self, transport: asyncio.Transport) -> bool:
        """False: there are too many."""
        if len(self._open) >= self._most:
            return False
        self._wait(transport)
        return True

    def lost(self, transport: asyncio.BaseTransport) -> None:
        """It is closed."""
        self._stop(transport)
        self._open.pop(transport, None)

    def _wait(self, transport: asyncio.BaseTransport) -> None:
        self._stop(transport)
        assert isinstance(transport, asyncio.WriteTransport)
        self._open[transport] = self._clock.call_at(self._clock.now() + PATIENCE, transport.abort)

    def _stop(self, transport: asyncio.BaseTransport) -> None:
        timer = self._open.get(transport)
        if timer is not None:
            timer.cancel()
            self._open[transport] = None


class _Counted(asyncio.Protocol):
    """Passes everything on to another protocol."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner, self._connections = inner, connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._connections.opened(transport):
            transport.abort()
            return
        self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._transport is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.lost(self._transport)
            self._inner.connection_lost(exc)
