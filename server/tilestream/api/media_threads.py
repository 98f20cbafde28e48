"""Threads that decode and encode for the event loop, which hears of what is done in few calls.

A future per frame wakes the loop for each of them. Here what is finished while the loop is busy waits for
it together, and nothing is made per job that could be waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from tilestream.api.fair_queue import FairQueue

log = logging.getLogger(__name__)

T = TypeVar("T")


class Job(Generic[T]):
    """Work for a media thread. Then ``result`` or ``error`` is there, unless it was ``cancelled``."""

    __slots__ = ("_done", "_work", "cancelled", "error", "result")

    def __init__(self, work: Callable[[], T], done: Callable[[Job[T]], object]) -> None:
        self._work: Callable[[], T] | None = work
        self._done = done
        self.cancelled = False
        self.result: T | None = None
        self.error: Exception | None = None

    def cancel(self) -> None:
        """What it holds is let go of at once; ``done`` is still called. No effect where it is being done."""
        if self._work is not None:
            self.cancelled, self._work = True, None

    def run(self) -> None:
        """In a media thread."""
        work, self._work = self._work, None
        if work is not None:
            try:
                self.result = work()
            except Exception as error:
                self.error = error

    def tell(self) -> None:
        """On the event loop, when it has run."""
        self._done(self)


class MediaThreads:
    """``count`` threads. All methods are called on the event loop that runs where this is made."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: FairQueue[Job[Any]] = FairQueue()
        self._finished: deque[Job[Any]] = deque()
        self._called = False  # the loop, and it has not looked yet
        self._threads = [
            threading.Thread(target=self._serve, name=f"media_{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[Job[T]], object], owner: str = "") -> Job[T]:
        """Do ``work`` in one of the threads, then call ``done`` with the job on the event loop.

        Jobs of an owner begin in the order in which they came, and owners get the same time where all have
        jobs waiting. ``done`` is called for every one.
        """
        job = Job(work, done)
        self._waiting.put(owner, job)
        return job

    def close(self) -> None:
        """Begin no more jobs. What is being done is not waited for. Idempotent."""
        for job in self._waiting.close():
            job.cancel()
            job.tell()

    def _serve(self) -> None:
        while (turn := self._waiting.get()) is not None:
            owner, job = turn
            begin = time.monotonic()
            job.run()
            self._waiting.took(owner, time.monotonic() - begin)
            self._finished.append(job)
            del job, turn  # it has the frame
            if not self._called:
                self._called = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                    self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._called = False  # first: what is finished from now on may be too late for this call
        while self._finished:
            try:
                self._finished.popleft().tell()
            except Exception:  # one session's trouble must not cost the others their frames
                log.exception("what a media thread did was lost")
