"""Overload control: compute less of each frame before dropping any, and drop frames before refusing sessions.

Two signals. *Wait*: how long a frame, once its session's previous one was done, waited for its step; it says
that something is wrong. *Demand*: the share of the engine's time that the frames offered now would take,
from the cost model; it says how much has to change. So the budget is set in one move, and not searched for.

Budgets are only lowered where that saves time worth the accuracy (see :class:`Remedy`): where frames of
which nothing is computed, or steps as such, are what costs, they are left as they are and frames are dropped.

Sessions that always have a next frame waiting (a file that is streamed as fast as it goes) take whatever time
there is. They are backlogged, but not overload: with them only the wait counts, and only the demand of the
others (of those that keep up) decides whether there is room to raise the budget again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum, IntEnum

from tilestream.scheduling.load_window import PERIOD, Costs, LoadWindow

log = logging.getLogger(__name__)

WORTH = 0.15
"""Of the engine's time: what lowering budgets has to save. The lowest budgets cost as much accuracy as
dropping a fifth of the frames does."""

_DOUBT = 0.03  # of the engine's time: by how much another remedy has to be better
_AIM = 0.85  # of the engine's time: what the demand is brought down to
_ROOM = 0.80  # the budget is raised only as far as this
_BUSY = 0.60  # below, frames wait because steps are long, and a lower budget would not help
_CALM = 0.7  # of the wait that is allowed: below, there may be room
_LOST = 1.05  # frames computed or dropped per frame computed, from which on frames are being lost
_SMALLEST_MOVE, _LARGEST_MOVE = 0.9, 0.5  # when the budget is lowered: by what it is multiplied
_RAISE = 1.05  # per period
_HOLD, _LONGEST_HOLD = 2.0, 30.0  # seconds without a raise after the budget was lowered
_SHED_AFTER, _REFUSE_AFTER, _CALM_AFTER = 1.0, 3.0, 2.0  # seconds
_TRY_AGAIN, _LONGEST, _TRIAL = (
    30.0,
    300.0,
    1.0,
)  # seconds after which lowering is tried in spite of all; how long


class Level(IntEnum):
    """What is being done about the load; each level includes those before it that help."""

    NORMAL = 0
    REDUCED = 1  # budgets are lowered
    SHEDDING = 2  # budgets are at their floor, or left alone; frames that waited too long are dropped
    REFUSING = 3  # no new sessions


class Remedy(Enum):
    """What can be done with budgets about the load."""

    LOWER = "lower"
    NONE = "none"  # neither saves enough
    WHOLE = "whole"  # frames that are compared with the one before cost more than computing all of them


@dataclass(frozen=True, slots=True)
class LoadReport:
    """``scale``: of all budgets, 0..1. ``demand``: 1 = all of the engine's time. ``wait``: seconds, p98.

    ``remedy``: what budgets can do about a load that is too much.
    """

    level: Level = Level.NORMAL
    scale: float = 1.0
    demand: float = 0.0
    wait: float = 0.0
    remedy: Remedy = Remedy.LOWER


class OverloadControl:
    """Scales budgets. ``service_level``: seconds that a frame's p99 may take in the server.

    ``min_budget``: no budget is lowered below this (one that was lower anyway stays as it is); 1: budgets are
    what sessions ask for, whatever that costs.
    """

    def __init__(self, service_level: float, min_budget: float) -> None:
        self.service_level, self.min_budget = service_level, min_budget
        self.scale, self.level = 1.0, Level.NORMAL
        self.remedy = self._told = Remedy.LOWER
        self.whole = False  # the remedy WHOLE is applied
        self.window = LoadWindow()
        self._next: float | None = None
        self._raised = self._lowered = self._calm_since = self._trouble_since = float("-inf")
        self._judged = float("-inf")  # when the remedy was chosen, or will be looked at again
        self._hold, self._try_again = _HOLD, _TRY_AGAIN

    def budget(self, wanted: float) -> float:
        """The budget in force for a session that wants so much."""
        return 1.0 if self.whole else max(self.least(wanted), wanted * self.scale)

    def least(self, wanted: float) -> float:
        """The lowest budget that such a session may get."""
        return min(self.min_budget, wanted)

    def lowers(self, wanted: float) -> bool:
        """Whether a session that wants so much has to take less at present."""
        return self.level >= Level.REDUCED and self.remedy is Remedy.LOWER and wanted > self.min_budget

    def update(self, now: float) -> None:
        """Decide, if it is time to. ``now``: monotonic seconds."""
        if self._next is None:
            self._next = now + PERIOD
            self._lowered = self._trouble_since = self._calm_since = now
        if now - self._next > 100.0:  # nothing happened for long: that is calm enough
            self._next = now - 100.0
        while now >= self._next:
            self._decide(self._next)
            self.window.next_period()
            self._next += PERIOD

    def report(self) -> LoadReport:
        """The present state."""
        return LoadReport(self.level, self.scale, self._demand(), self.window.wait(), self.remedy)

    # Signals, over the last second

    def _target(self) -> float:
        """Seconds that frames may wait: what the step itself leaves of the service level, with some room."""
        return max(0.25 * self.service_level, 0.5 * self.service_level - self.window.step())

    def _demand(self) -> float:
        costs = self.window.costs()
        seconds = costs.all_whole() if self.whole else costs.at(self.scale)
        return self.window.lost() * seconds / self.window.span

    def _floor(self) -> float:
        """The scale at which the largest budget is at its minimum."""
        largest = self.window.largest_budget()
        return min(1.0, self.min_budget / largest) if largest else self.scale

    # Decisions

    def _decide(self, now: float) -> None:
        wait, target, lost = self.window.wait(), self._target(), self.window.lost() > _LOST
        late = (wait > target or lost) and max(self._demand(), self.window.busy()) > _BUSY
        self._judge(now, late)
        if late:
            self._calm_since = now
            if not self._remedied(now) and (wait + self.window.step() > self.service_level or lost):
                self._escalate(now)
            return
        self._trouble_since = now
        if wait > _CALM * target or lost:
            self._calm_since = now
        elif self.level > Level.REDUCED and now - self._calm_since >= _CALM_AFTER:
            self.level, self._calm_since = Level(self.level - 1), now
        elif self.level <= Level.REDUCED and now - self._lowered >= self._hold:
            self._raise(now, wait, target)

    def _judge(self, now: float, late: bool) -> None:
        """Choose the remedy by what frames cost, as far as steps have told."""
        in_use = late or self.whole or self.scale < 1.0
        if not in_use or now < self._judged or self._floor() >= 1.0:
            return
        costs, used = self.window.costs(), self.window.used()
        if not costs.asked:  # no frame tells
            return
        gain = {
            Remedy.LOWER: costs.saved_by_lowering(used) - WORTH,
            Remedy.NONE: 0.0,
            Remedy.WHOLE: costs.saved_by_whole_frames(used),  # which makes labels better, too
        }
        best = max(gain, key=gain.__getitem__)
        if gain[best] > gain[self.remedy] + _DOUBT:
            self._choose(best, now)
            self._tell()
        elif late and self.remedy is not Remedy.LOWER and now - self._judged >= self._try_again:
            # Where budgets are not lowered, nothing tells any more what that would bring.
            self._try_again = min(2.0 * self._try_again, _LONGEST)
            self._choose(Remedy.LOWER, now + _TRIAL)

    def _tell(self) -> None:
        """Log another remedy than before; what a trial only confirms is no news."""
        if self.remedy is not self._told:
            self._told = self.remedy
            log.warning(_SAID[self.remedy])

    def _choose(self, remedy: Remedy, now: float) -> None:
        self.remedy, self._judged = remedy, now
        self.whole = False
        if remedy is not Remedy.LOWER:
            self.scale = 1.0

    def _remedied(self, now: float) -> bool:
        """Do with budgets what can be done. False if that is done."""
        if self.remedy is Remedy.LOWER and self.scale > self._floor():
            self._lower(now)
        elif self.remedy is Remedy.WHOLE and not self.whole:
            self.whole = True
        else:
            return False
        self.level = max(self.level, Level.REDUCED)
        self._lowered = self._trouble_since = now
        self.window.forget_waits()
        return True

    def _lower(self, now: float) -> None:
        costs, lost = self.window.costs(), self.window.lost()
        wanted = _SMALLEST_MOVE * min(self.scale, _worthwhile(costs))
        if self._demand() > _AIM and costs.units > 0:
            enough = (_AIM * self.window.span / lost - costs.overhead(0.0)) / costs.units
            wanted = min(wanted, max(enough, _LARGEST_MOVE * self.scale))
        if now - self._raised < 5.0:  # the last raise was too much: wait longer before the next
            self._hold = min(2.0 * self._hold, _LONGEST_HOLD)
        self.scale = max(wanted, self._floor())

    def _escalate(self, now: float) -> None:
        """Budgets are as they should be and frames still wait."""
        trouble = now - self._trouble_since
        if trouble >= _REFUSE_AFTER:
            self.level = Level.REFUSING
        elif trouble >= _SHED_AFTER:
            self.level = max(self.level, Level.SHEDDING)

    def _raise(self, now: float, wait: float, target: float) -> None:
        costs, span = self.window.costs(steady=True), self.window.span
        if self.whole:
            if costs.at(1.0) <= _ROOM * span:
                self.whole, self._raised = False, now
            return
        if self.scale >= 1.0:
            self.level = Level.NORMAL
            self._hold = _HOLD if now - self._lowered > _LONGEST_HOLD else self._hold
            return
        wanted = min(1.0, self.scale * _RAISE)
        if wanted > _worthwhile(costs):
            wanted = 1.0
        if costs.at(wanted) <= _ROOM * span and wait * wanted / self.scale <= 0.8 * target:
            self.scale, self._raised = wanted, now


def _worthwhile(costs: Costs) -> float:
    """The scale from which on lowered budgets save what comparing frames costs."""
    return max(0.0, 1.0 - costs.more_compared / costs.units) if costs.units else 1.0


_SAID = {
    Remedy.LOWER: "lower budgets would help: they are lowered under load",
    Remedy.NONE: "lower budgets would not help: they are left alone, frames are dropped under load",
    Remedy.WHOLE: "whole frames cost less than compared ones: all frames are whole under load",
}
