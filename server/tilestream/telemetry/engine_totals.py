"""Several engines' reports put together. Each counts from its own start."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilestream.messages import EngineReport


@dataclass(slots=True)
class EngineTotals:
    """The latest report of every engine, and what has come of the counters over all their lives."""

    _latest: dict[int, EngineReport] = field(default_factory=dict)

    def update(self, engine: int, report: EngineReport) -> tuple[int, int]:
        """Note a report; new evictions and restarts since the one before."""
        before = self._latest.get(engine, EngineReport())
        self._latest[engine] = report
        return _growth(before.evictions, report.evictions), _growth(before.restarts, report.restarts)

    def sum(self, field_name: str) -> int:
        """Of a number that every engine has for itself, such as ``store_bytes``."""
        return sum(getattr(report, field_name) for report in self._latest.values())


def _growth(before: int, now: int) -> int:
    """A smaller number than before is that of an engine that was made anew."""
    return now - before if now >= before else now
