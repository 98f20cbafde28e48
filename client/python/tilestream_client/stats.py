"""Counting results: fates, latencies, reuse. Fixed memory however long a stream runs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from tilestream_client.result import FrameStatus, Result

_STEP = math.log(1.01)  # buckets 1 % apart, so a percentile is right to half a percent
_FLOOR = 1e-6  # seconds; what is faster counts as this


class Latencies:
    """A histogram of seconds with logarithmic buckets; microseconds to days fit into some 2,600 of them."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0

    def __len__(self) -> int:
        """How many were added."""
        return self._count

    def add(self, seconds: float) -> None:
        """Count one."""
        self._buckets[round(math.log(max(seconds, _FLOOR)) / _STEP)] += 1
        self._count += 1

    def merge(self, other: Latencies) -> None:
        """Count all of another histogram's too."""
        self._buckets.update(other._buckets)
        self._count += other._count

    def percentile(self, percent: float) -> float | None:
        """Seconds that ``percent`` (0..100) of all do not exceed (nearest rank); None if there are none."""
        rank = max(1, math.ceil(percent / 100 * self._count))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return math.exp(bucket * _STEP)
        return None

    def milliseconds(self) -> dict[str, float | None]:
        """The percentiles people ask for: p50, p90 and p99, milliseconds."""
        found = {f"p{percent}": self.percentile(percent) for percent in (50, 90, 99)}
        return {name: None if value is None else round(value * 1e3, 3) for name, value in found.items()}


@dataclass(slots=True)
class Tally:
    """What became of the frames of a stream, or of many. sent = ok + dropped + invalid + unanswered."""

    sent: int = 0
    ok: int = 0
    dropped: int = 0
    invalid: int = 0
    key_frames: int = 0
    units_computed: int = 0
    units_dropped: int = 0
    units_compared: int = 0  # computed in frames with a reuse agreement
    units_agreed: float = 0.0  # these, times that agreement
    latencies: Latencies = field(default_factory=Latencies)
    server: Latencies = field(default_factory=Latencies)  # from arrival to answer there

    @property
    def unanswered(self) -> int:
        """Frames sent that have no answer."""
        return self.sent - self.ok - self.dropped - self.invalid

    @property
    def block_drop_rate(self) -> float:
        """Block units dropped / all of them, over all frames answered with a mask; 0 where there are none."""
        return self.units_dropped / max(1, self.units_computed + self.units_dropped)

    @property
    def agreement(self) -> float | None:
        """Reuse agreement, each frame weighted by what it computed; None where nothing could tell."""
        return self.units_agreed / self.units_compared if self.units_compared else None

    def add(self, result: Result, latency: float | None = None) -> None:
        """Count one answer; ``latency`` (seconds) replaces the result's own. Latencies are of OK frames."""
        if result.status is FrameStatus.DROPPED:
            self.dropped += 1
        elif result.status is FrameStatus.INVALID:
            self.invalid += 1
        else:
            self.ok += 1
            self.latencies.add(result.latency if latency is None else latency)
            self.server.add(result.times.total)
            self._add_reuse(result)

    def merge(self, other: Tally) -> None:
        """Count all of another tally's too."""
        for name in (each.name for each in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Latencies):
                mine.merge(theirs)
            else:
                setattr(self, name, mine + theirs)

    def report(self, seconds: float) -> dict[str, Any]:
        """The part that every summary has in common; ``seconds`` is how long it took."""
        return {
            "frames_sent": self.sent,
            "frames_ok": self.ok,
            "frames_dropped": self.dropped,
            "frames_invalid": self.invalid,
            "frames_unanswered": self.unanswered,
            "fps": round(self.ok / seconds, 3) if seconds > 0 else 0.0,
            "latency_ms": self.latencies.milliseconds(),
        }

    def _add_reuse(self, result: Result) -> None:
        if result.reuse is not None:
            self.key_frames += result.reuse.key_frame
            self.units_computed += result.reuse.units_computed
            self.units_dropped += result.reuse.units_dropped
            if result.reuse.agreement is not None:
                self.units_compared += result.reuse.units_computed
                self.units_agreed += result.reuse.units_computed * result.reuse.agreement
