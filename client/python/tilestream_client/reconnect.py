"""When to try again after a stream was lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tilestream_client.errors import (
    ConnectionFailed,
    ConnectionLost,
    ServerBusy,
    ServerError,
    TilestreamError,
)

DEFAULT_RECONNECT_TIMEOUT = 60.0
# What passes; ServerDraining is a ServerBusy. A proxy reports a backend that died as INTERNAL or CANCELLED.
_PASSING = (ConnectionFailed, ConnectionLost, ServerBusy, ServerError)


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Exponential back-off with full jitter.

    timeout: seconds after which an outage is given up; 0 = a lost stream is not opened again. first_delay,
    max_delay: seconds; the n-th attempt waits at random up to first_delay * 2^n, at most max_delay, and
    longer where the server says so.
    """

    timeout: float = 0.0
    first_delay: float = 0.1
    max_delay: float = 5.0


class BackOff:
    """The attempts of one stream to come back."""

    def __init__(
        self,
        policy: Reconnect,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._uniform = uniform
        self._outage_began: float | None = None
        self._first_error: TilestreamError | None = None
        self._attempts = 0
        self._opened = clock()

    @property
    def enabled(self) -> bool:
        """Whether a lost stream is opened again at all."""
        return self._policy.timeout > 0

    def opened(self) -> None:
        """A session is open. The outage is over once it proves to work."""
        self._opened = self._clock()

    def works(self) -> None:
        """The session has brought a result: the next loss is a new outage."""
        self._outage_began = None

    def retry_at(self, error: BaseException | None, *, open_before: bool) -> float | None:
        """When to try again after ``error``, by the clock; None: not at all.

        ``open_before``: the call that ended had opened a session.
        """
        if not self.enabled or not isinstance(error, _PASSING):
            return None
        now = self._clock()
        if self._outage_began is None or (open_before and now - self._opened > self._policy.max_delay):
            self._outage_began, self._attempts, self._first_error = now, 0, error
        ceiling = min(self._policy.max_delay, self._policy.first_delay * 2.0 ** min(self._attempts, 30))
        at = now + (error.retry_after or 0.0) + self._uniform(0.0, ceiling)
        if at > self._outage_began + self._policy.timeout:
            return None
        self._attempts += 1
        return at

    def explained(self, error: BaseException | None) -> BaseException | None:
        """``error``, which ended the attempts, with what was tried."""
        first = self._first_error
        if self._outage_began is None or not self._attempts or first is None:
            return error
        tried = f"{first}; tried to come back {self._attempts} times in {self._policy.timeout:g} s"
        last = "" if error is None or str(error) == str(first) else f", at last: {error}"
        if not isinstance(error, _PASSING):
            return error
        return ConnectionLost(tried + last, code=error.code, retry_after=error.retry_after)
