"""Rolling statistics of one session, for the list of sessions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tilestream.sessions.frames import Answer, Status

WINDOW_SECONDS = 10.0
MAX_SAMPLES = 2048  # a bound for very fast sessions


@dataclass(frozen=True, slots=True)
class SessionRates:
    """Over the last seconds: frames answered OK per second, seconds, shares 0..1.

    ``agreement``: reuse agreement over all pixels that were compared; None where none were.
    """

    fps: float = 0.0
    latency_p50: float = 0.0
    latency_p99: float = 0.0
    block_drop_rate: float = 0.0
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    """A frame answered OK."""

    at: float
    latency: float
    units_computed: int
    units_total: int
    pixels_compared: int
    pixels_changed: float


class SessionStats:
    """Counts since the session was opened, and rates over the last :data:`WINDOW_SECONDS`."""

    def __init__(self, opened: float) -> None:
        self.received = 0
        self.bytes_received = self.bytes_sent = 0  # of frames, and of masks and confidence maps
        self.answered = dict.fromkeys(Status, 0)
        self.block_budget = 0.0  # of the latest frame answered OK
        self.frame_size: tuple[int, int] | None = None  # (width, height) of the latest frame
        self._opened = opened
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)

    def add(self, answer: Answer, latency: float, now: float) -> None:
        """Count an answer that was sent ``latency`` seconds after its frame arrived."""
        self.answered[answer.status] += 1
        self.bytes_sent += answer.encoded_bytes
        if answer.status is not Status.OK or answer.stats is None:
            return
        stats = answer.stats
        self.block_budget = stats.budget
        self._samples.append(
            _Sample(
                now,
                latency,
                stats.units_computed,
                stats.units_total,
                stats.agreement_pixels,
                stats.pixels_changed,
            )
        )
        self._forget(now)

    def rates(self, now: float) -> SessionRates:
        """The rates as of ``now``."""
        self._forget(now)
        samples = self._samples
        if not samples:
            return SessionRates()
        full = len(samples) == MAX_SAMPLES
        since = samples[0].at if full else max(self._opened, now - WINDOW_SECONDS)
        latencies = sorted(sample.latency for sample in samples)
        total = sum(sample.units_total for sample in samples)
        compared = sum(sample.pixels_compared for sample in samples)
        return SessionRates(
            fps=len(samples) / max(now - since, 1e-3),
            latency_p50=percentile(latencies, 0.50),
            latency_p99=percentile(latencies, 0.99),
            block_drop_rate=1.0 - sum(s.units_computed for s in samples) / total if total else 0.0,
            agreement=1.0 - sum(s.pixels_changed for s in samples) / compared if compared else None,
        )

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0].at < now - WINDOW_SECONDS:
            self._samples.popleft()


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile (share 0..1) of values in ascending order; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
