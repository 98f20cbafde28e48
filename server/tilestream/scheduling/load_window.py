"""What the last second brought: how long frames waited, what they cost, and would cost at other budgets."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field

PERIOD = 0.2  # seconds between decisions
_PERIODS = 5  # that a decision looks back on
_FADING = 0.98  # per period, of what is known of how much of their budgets frames use


@dataclass(frozen=True, slots=True)
class FrameLoad:
    """A computed frame, in seconds.

    ``wait``: how long it waited for its step. ``spent``: what it took of that. ``frame``: what it takes by
    itself. ``compared``: what being compared with the one before it takes, or would take. ``units``: what was
    computed of it, had it had the budget that its session asks for. ``asked``, ``least``: what all of that
    budget comes to, and all of the lowest that it may get. ``whole``: all of the frame.

    ``used``: the share of its budget that was computed or saved up for later; None where nothing is charged.
    ``bound``: it is computed in full, whatever its budget. ``bare``: at the budget that its session asks for
    it is not compared, as all of it is computed anyway. ``backlogged``: it was there before its session's
    previous frame was done.
    """

    wait: float
    spent: float
    frame: float
    compared: float
    units: float
    asked: float
    least: float
    whole: float
    used: float | None
    bound: bool = False
    bare: bool = False
    backlogged: bool = False


@dataclass(slots=True)
class Costs:
    """Sums over frames, seconds; see :class:`FrameLoad`.

    ``steps``: what steps take beside their frames, unless shorter frames would have let others into them.
    ``more_compared``: of frames that are only compared if budgets are lowered; the others' is ``compared``.
    ``bound``: all of frames that are computed in full whatever their budgets; what follows is of the others.
    """

    steps: float = 0.0
    bound: float = 0.0
    frame: float = 0.0
    compared: float = 0.0
    more_compared: float = 0.0
    units: float = 0.0
    asked: float = 0.0
    least: float = 0.0
    whole: float = 0.0

    def add(self, frame: FrameLoad) -> None:
        """Another frame."""
        if frame.bound:
            self.bound += frame.frame + frame.whole
            return
        self.frame += frame.frame
        self.whole += frame.whole
        if frame.bare:
            self.more_compared += frame.compared
        else:
            self.compared += frame.compared
        self.units += frame.units
        self.asked += frame.asked
        self.least += frame.least

    def at(self, scale: float) -> float:
        """Seconds of the frames if all budgets were multiplied with ``scale``."""
        return self.overhead(scale) + self.units * scale

    def overhead(self, scale: float) -> float:
        """Of these, what does not depend on how much is computed."""
        return self.bound + self._by_themselves(scale)

    def _by_themselves(self, scale: float) -> float:
        return self.frame + self.compared + (self.more_compared if scale < 1.0 else 0.0)

    def all_whole(self) -> float:
        """Seconds of the frames if all of each was computed, and none compared."""
        return self.bound + self.frame + self.whole

    def saved_by_lowering(self, used: float) -> float:
        """The share of all time that is saved where all budgets are as low as may be; below 0: lost.

        Of the time of frames that are not bound. ``used``: the share of their budgets that they use.
        """
        return self._saved(self._by_themselves(0.0) + used * self.least, used)

    def saved_by_whole_frames(self, used: float) -> float:
        """Likewise, where all of every frame is computed, and none compared."""
        return self._saved(self.frame + self.whole, used)

    def _saved(self, seconds: float, used: float) -> float:
        asked = self._by_themselves(1.0) + used * self.asked
        return (asked - seconds) / (self.steps + asked) if asked else 0.0


@dataclass(slots=True)
class _Period:
    dropped: int = 0
    computed: int = 0
    largest_budget: float = 0.0
    costs: Costs = field(default_factory=Costs)
    steady: Costs = field(default_factory=Costs)  # of sessions that keep up
    step_seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


class LoadWindow:
    """Sums over the last periods."""

    def __init__(self) -> None:
        self._periods: deque[_Period] = deque([_Period()], maxlen=_PERIODS)
        self._used = self._charged = 0.0  # sum and number, of a longer time

    def next_period(self) -> None:
        """A period is over."""
        self._periods.append(_Period())
        self._used *= _FADING
        self._charged *= _FADING

    def offered(self, budget: float) -> None:
        """A frame has come, of a session that asks for this budget."""
        self._periods[-1].largest_budget = max(self._periods[-1].largest_budget, budget)

    def dropped(self) -> None:
        """A frame that was ready was dropped for a later one."""
        self._periods[-1].dropped += 1

    def computed(self, frames: list[FrameLoad], seconds: float, full: bool = False) -> None:
        """A step has brought these frames in so many seconds. ``full``: others had no room in its time."""
        period = self._periods[-1]
        period.step_seconds.append(seconds)
        if not full:
            period.costs.steps += max(0.0, seconds - sum(frame.spent for frame in frames))
        for frame in frames:
            period.computed += 1
            period.waits.append(frame.wait)
            period.costs.add(frame)
            if not frame.backlogged:
                period.steady.add(frame)
            if frame.used is not None:
                self._used += frame.used
                self._charged += 1.0

    def forget_waits(self) -> None:
        """What waited before says nothing about what waits from now on."""
        for period in self._periods:
            period.waits.clear()

    @property
    def span(self) -> float:
        """Seconds."""
        return PERIOD * len(self._periods)

    def largest_budget(self) -> float:
        """That a session asks for; 0 without any."""
        return max(period.largest_budget for period in self._periods)

    def wait(self) -> float:
        """Seconds that frames waited, p98."""
        waits = sorted(wait for period in self._periods for wait in period.waits)
        return waits[min(len(waits) - 1, int(0.98 * len(waits)))] if waits else 0.0

    def step(self) -> float:
        """Mean seconds of a step."""
        steps = list(self._steps())
        return sum(steps) / len(steps) if steps else 0.0

    def busy(self) -> float:
        """The share of the engine's time that steps took."""
        return sum(self._steps()) / self.span

    def _steps(self) -> Iterator[float]:
        return (seconds for period in self._periods for seconds in period.step_seconds)

    def lost(self) -> float:
        """Frames computed or dropped per frame computed, at least 1."""
        dropped = sum(period.dropped for period in self._periods)
        return 1.0 + dropped / max(1, sum(period.computed for period in self._periods))

    def used(self) -> float:
        """The share of their budgets, 0..1, that frames use; a quiet scene forfeits what it has saved."""
        return min(self._used / self._charged, 1.0) if self._charged else 1.0

    def costs(self, steady: bool = False) -> Costs:
        """Of the frames that were computed; ``steady``: of those whose sessions keep up."""
        found = [astuple(period.steady if steady else period.costs) for period in self._periods]
        return Costs(*map(sum, zip(*found, strict=True)))
