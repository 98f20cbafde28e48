"""The law of credit: what a session's frames leave of their budget is there for later ones.

The engine counts by it what a session may compute, the scheduler what that will come to.
"""

from __future__ import annotations

MOST_SAVED = 1.0
"""Whole frames: what a quiet scene saves up, and what a busy one may borrow, at most."""

WHOLE = 1.0 - 1e-6
"""Whole frames' worth of budget that pay for one: a third three times is a little less than 1."""


class Credit:
    """One session's account. ``balance``: whole frames' worth of budget, below 0 where it was overdrawn.

    It begins with ``phase``, 0..1, see ``SessionSpec``: sessions that begin together come to their next
    whole frame at different times. A frame before which there is nothing to reuse is not charged.
    """

    def __init__(self, phase: float = 0.0) -> None:
        self._phase = phase
        self.balance = phase
        self.fresh = True
        """Whether the next frame has nothing to reuse and is not charged."""

    def with_budget(self, budget: float) -> float:
        """Whole frames' worth that a frame of this budget may take."""
        return self.balance + budget

    def pays_for_whole(self, budget: float) -> bool:
        """Whether a frame of this budget may be computed in full."""
        return budget > 0 and pays_for_whole(self.with_budget(budget))

    def charge(self, budget: float, share: float) -> None:
        """A frame that was allowed ``budget`` computed ``share`` of its units, both 0..1."""
        if self.fresh:
            self.fresh = False
        else:
            self.balance = min(max(self.balance + budget - share, -MOST_SAVED), MOST_SAVED)

    def restart(self) -> None:
        """The session begins anew: nothing is saved up, and its next frame is not charged."""
        self.balance, self.fresh = self._phase, True


def pays_for_whole(credit: float) -> bool:
    """Whether so many whole frames' worth of budget are enough for one."""
    return credit >= WHOLE
