"""A clock that stands still until a test moves it on."""

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator, Callable

from support.waiting import until
from tilestream.clock import Clock


class ManualClock(Clock):
    """``advance`` may be called from any thread, by an engine whose steps are to take time, say."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[_Timer] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on, and wake those whose time has come."""
        with self._lock:
            self._now += seconds
        self._ring()

    async def elapse(self, seconds: float) -> None:
        """Move on by ``seconds`` as soon as somebody waits for that very moment."""
        when = self._now + seconds

        def due() -> list[float]:
            return [timer.when for timer in list(self._timers) if math.isclose(timer.when, when)]

        await until(due)
        with self._lock:
            self._now = max(when, *due())
        self._ring()

    @contextlib.asynccontextmanager
    async def timeout_at(self, when: float) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as timeout:
            timer = self.call_at(when, timeout.reschedule, 0.0)  # a time that is over: at once
            try:
                yield
            finally:
                timer.cancel()

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> "_Timer":
        timer = _Timer(self, when, lambda: callback(*arguments))
        with self._lock:
            self._timers.append(timer)
        self._ring()
        return timer

    def forget(self, timer: "_Timer") -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._timers.remove(timer)

    def _ring(self) -> None:
        for timer in [one for one in self._timers if one.when <= self._now]:
            self.forget(timer)
            timer.ring()


class _Timer:
    """A call on the loop that runs when it is made."""

    def __init__(self, clock: ManualClock, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self._clock, self._callback = clock, callback
        self._loop = asyncio.get_running_loop()
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._clock.forget(self)

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        if not self._cancelled:
            self._callback()
