"""The server's clock: what time it is, and to be woken at a time. Tests have one that they move by hand."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Do not make it. Idempotent."""


class Clock:
    """Monotonic seconds. Any thread may ask for :meth:`now`; the rest belongs to an event loop."""

    def now(self) -> float:
        """Seconds since a moment that does not matter."""
        return time.monotonic()

    def timeout_at(self, when: float) -> AbstractAsyncContextManager[object]:
        """What is awaited inside ends with TimeoutError at ``when``; never if that is infinite."""
        return asyncio.timeout(None if math.isinf(when) else when - self.now())

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> Timer:
        """Call it on the running event loop at ``when``, unless it is cancelled before."""
        return asyncio.get_running_loop().call_later(when - self.now(), callback, *arguments)
