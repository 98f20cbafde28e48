"""Token buckets: how much of something per second, with some of it at once."""

from __future__ import annotations


class Bucket:
    """Fills up with time. The rate is told at every use, so that a changed one holds at once."""

    def __init__(self) -> None:
        self._spent = 0.0  # what is missing of a full bucket, as of `_at`
        self._at = 0.0

    def wait(self, now: float, rate: float, burst: float) -> float:
        """Seconds until one more fits in at ``rate`` per second; 0: now. ``burst``: most at once, at least 1.

        ``now``: monotonic seconds.
        """
        self._refill(now, rate)
        return max(0.0, (self._spent + 1.0 - max(burst, 1.0)) / rate)

    def take(self) -> None:
        """Use one, after :meth:`wait` has said so."""
        self._spent += 1.0

    def is_full(self, now: float, rate: float) -> bool:
        """Whether nothing is left to remember of it."""
        self._refill(now, rate)
        return self._spent <= 0.0

    def _refill(self, now: float, rate: float) -> None:
        self._spent = max(0.0, self._spent - (now - self._at) * rate)
        self._at = now
