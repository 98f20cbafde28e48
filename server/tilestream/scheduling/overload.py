"""Overload control: compute less of each frame before dropping any, and drop frames before refusing sessions.

Two signals. *Wait*: how long a frame, once its session's previous one was done, waited for its step; it says
that something is wrong. *Demand*: the share of the engine's time that the frames offered now would take,
from the cost model; it says how much has to change. So the budget is set in one move, and not searched for.

Sessions that always have a next frame waiting (a file that is streamed as fast as it goes) take whatever time
there is. They are backlogged, but not overload: with them only the wait counts, and only the demand of the
others (of those that keep up) decides whether there is room to raise the budget again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

PERIOD = 0.2  # seconds between decisions
_WINDOW = 5  # periods that a decision looks back on

_AIM = 0.85  # of the engine's time: what the demand is brought down to
_ROOM = 0.80  # the budget is raised only as far as this
_BUSY = 0.60  # below, frames wait because steps are long, and a lower budget would not help
_CALM = 0.7  # of the wait that is allowed: below, there may be room
_LOST = 1.05  # frames computed or dropped per frame computed, from which on frames are being lost
_SMALLEST_MOVE, _LARGEST_MOVE = 0.9, 0.5  # when the budget is lowered: by what it is multiplied
_RAISE = 1.05  # per period
_HOLD, _LONGEST_HOLD = 2.0, 30.0  # seconds without a raise after the budget was lowered
_SHED_AFTER, _REFUSE_AFTER, _CALM_AFTER = 1.0, 3.0, 2.0  # seconds


class Level(IntEnum):
    """What is being done about the load; each level includes those before it."""

    NORMAL = 0
    REDUCED = 1  # budgets are lowered
    SHEDDING = 2  # budgets are at their floor; frames that waited too long are dropped
    REFUSING = 3  # no new sessions


@dataclass(frozen=True, slots=True)
class LoadReport:
    """``scale``: of all budgets, 0..1. ``demand``: 1 = all of the engine's time. ``wait``: seconds, p98."""

    level: Level = Level.NORMAL
    scale: float = 1.0
    demand: float = 0.0
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class FrameLoad:
    """A computed frame. Seconds: that it waited, that it took by itself, that its units took.

    ``backlogged``: it was there before its session's previous frame was done.
    """

    wait: float
    frame_seconds: float
    unit_seconds: float
    backlogged: bool


@dataclass(slots=True)
class _Period:
    """Sums over one period. ``unit_seconds``: what they would be at scale 1."""

    dropped: int = 0
    computed: int = 0
    frame_seconds: float = 0.0
    unit_seconds: float = 0.0
    steady_frame_seconds: float = 0.0  # of sessions that keep up
    steady_unit_seconds: float = 0.0
    largest_budget: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


class OverloadControl:
    """Scales budgets. ``service_level``: seconds that a frame's p99 may take in the server.

    ``min_budget``: no budget is lowered below this (one that was lower anyway stays as it is).
    """

    def __init__(self, service_level: float, min_budget: float) -> None:
        self.service_level, self.min_budget = service_level, min_budget
        self.scale, self.level = 1.0, Level.NORMAL
        self._periods: deque[_Period] = deque([_Period()], maxlen=_WINDOW)
        self._next: float | None = None
        self._raised = self._lowered = self._calm_since = self._trouble_since = float("-inf")
        self._hold = _HOLD

    def budget(self, wanted: float) -> float:
        """The budget in force for a session that wants so much."""
        return max(min(self.min_budget, wanted), wanted * self.scale)

    def lowers(self, wanted: float) -> bool:
        """Whether a session that wants so much has to take less at present."""
        return self.level >= Level.REDUCED and wanted > self.min_budget

    def offered(self, budget: float) -> None:
        """A frame has come, of a session that wants this budget."""
        self._periods[-1].largest_budget = max(self._periods[-1].largest_budget, budget)

    def dropped(self) -> None:
        """A frame that was ready was dropped for a later one."""
        self._periods[-1].dropped += 1

    def computed(self, frames: list[FrameLoad], seconds: float) -> None:
        """A step has brought these frames in so many seconds."""
        period = self._periods[-1]
        period.step_seconds.append(seconds)
        for frame in frames:
            period.computed += 1
            period.waits.append(frame.wait)
            at_full_scale = frame.unit_seconds / self.scale
            period.frame_seconds += frame.frame_seconds
            period.unit_seconds += at_full_scale
            if not frame.backlogged:
                period.steady_frame_seconds += frame.frame_seconds
                period.steady_unit_seconds += at_full_scale

    def update(self, now: float) -> None:
        """Decide, if it is time to. ``now``: monotonic seconds."""
        if self._next is None:
            self._next = now + PERIOD
            self._lowered = self._trouble_since = self._calm_since = now
        if now - self._next > 100.0:  # nothing happened for long: that is calm enough
            self._next = now - 100.0
        while now >= self._next:
            self._decide(self._next)
            self._periods.append(_Period())
            self._next += PERIOD

    def report(self) -> LoadReport:
        """The present state."""
        return LoadReport(self.level, self.scale, self._demand(self.scale), self._wait())

    # Signals, over the last second

    def _wait(self) -> float:
        waits = sorted(wait for period in self._periods for wait in period.waits)
        return waits[min(len(waits) - 1, int(0.98 * len(waits)))] if waits else 0.0

    def _target(self) -> float:
        """Seconds that frames may wait: what the step itself leaves of the service level, with some room."""
        return max(0.25 * self.service_level, 0.5 * self.service_level - self._step())

    def _step(self) -> float:
        """Mean seconds of a step."""
        steps = [seconds for period in self._periods for seconds in period.step_seconds]
        return sum(steps) / len(steps) if steps else 0.0

    def _busy(self) -> float:
        """The share of the engine's time that steps took."""
        total = sum(seconds for period in self._periods for seconds in period.step_seconds)
        return total / (PERIOD * len(self._periods))

    def _lost(self) -> float:
        """Frames computed or dropped per frame computed, at least 1."""
        dropped = sum(period.dropped for period in self._periods)
        return 1.0 + dropped / max(1, sum(period.computed for period in self._periods))

    def _demand(self, scale: float) -> float:
        frames, units = self._parts(steady=False)
        return self._lost() * (frames + units * scale)

    def _parts(self, steady: bool) -> tuple[float, float]:
        """Shares of the engine's time that frames take by themselves, and their units at scale 1."""
        span = PERIOD * len(self._periods)
        if steady:
            frames = sum(period.steady_frame_seconds for period in self._periods)
            units = sum(period.steady_unit_seconds for period in self._periods)
        else:
            frames = sum(period.frame_seconds for period in self._periods)
            units = sum(period.unit_seconds for period in self._periods)
        return frames / span, units / span

    # Decisions

    def _decide(self, now: float) -> None:
        wait, target = self._wait(), self._target()
        demand = self._demand(self.scale)
        late = wait > target or self._lost() > _LOST
        if late and max(demand, self._busy()) > _BUSY:
            self._calm_since = now
            if self.scale > self._floor():
                self._lower(now, demand)
            elif wait + self._step() > self.service_level or self._lost() > _LOST:
                self._escalate(now)
            return
        self._trouble_since = now
        if wait > _CALM * target or self._lost() > _LOST:
            self._calm_since = now
        elif self.level > Level.REDUCED and now - self._calm_since >= _CALM_AFTER:
            self.level, self._calm_since = Level(self.level - 1), now
        elif self.level <= Level.REDUCED and now - self._lowered >= self._hold:
            self._raise(now, wait, target)

    def _floor(self) -> float:
        """The scale at which the largest budget is at its minimum."""
        largest = max((period.largest_budget for period in self._periods), default=0.0)
        return min(1.0, self.min_budget / largest) if largest else self.scale

    def _lower(self, now: float, demand: float) -> None:
        frames, units = (self._lost() * part for part in self._parts(steady=False))
        wanted = _SMALLEST_MOVE * self.scale
        if demand > _AIM and units > 0:
            wanted = min(wanted, max((_AIM - frames) / units, _LARGEST_MOVE * self.scale))
        if now - self._raised < 5.0:  # the last raise was too much: wait longer before the next
            self._hold = min(2.0 * self._hold, _LONGEST_HOLD)
        self.scale = max(wanted, self._floor())
        self.level = max(self.level, Level.REDUCED)
        self._lowered = self._trouble_since = now
        for period in self._periods:  # what waited before says nothing about the new scale
            period.waits.clear()

    def _escalate(self, now: float) -> None:
        """Budgets are at their floor and frames still wait."""
        trouble = now - self._trouble_since
        if trouble >= _REFUSE_AFTER:
            self.level = Level.REFUSING
        elif trouble >= _SHED_AFTER:
            self.level = max(self.level, Level.SHEDDING)

    def _raise(self, now: float, wait: float, target: float) -> None:
        if self.scale >= 1.0:
            self.level = Level.NORMAL
            self._hold = _HOLD if now - self._lowered > _LONGEST_HOLD else self._hold
            return
        wanted = min(1.0, self.scale * _RAISE)
        frames, units = self._parts(steady=True)
        if frames + units * wanted <= _ROOM and wait * wanted / self.scale <= 0.8 * target:
            self.scale, self._raised = wanted, now
