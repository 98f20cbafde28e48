"""The rhythm of refreshes: what a budget buys between two whole frames.

A refresh computes a share of the bins, those in most doubt. The gate keeps the rhythm, and by it the
scheduler reckons what the next frame of a session will come to.
"""

from __future__ import annotations

from dataclasses import dataclass

REFRESH = "refresh"
"""The gate that keeps it."""

REFRESHES, SHARE = 2, 0.35
"""Between two whole frames, and of the bins in each of them."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Of one budget. ``refreshes``: between two whole frames. ``share``: of the bins, in each of them.

    ``period``: frames from one whole frame or refresh to the next.
    """

    refreshes: int
    share: float
    period: float

    @classmethod
    def of(cls, budget: float) -> Rhythm:
        """Whole frames come every (1 + refreshes * share) / budget frames: that is what the budget pays."""
        interval = (1 + REFRESHES * SHARE) / budget
        return cls(REFRESHES, SHARE, interval / (1 + REFRESHES))

    def due(self, since_source: int, refreshed: int) -> bool:
        """Whether a frame is refreshed so many frames after the latest of which anything was computed.

        ``refreshed``: frames since the latest whole one that were.
        """
        return refreshed < self.refreshes and since_source >= self.period - 0.5


AHEAD = (0.25, 0.1)
"""Where labels may wait for the next whole frame: of the bins of the frame in the middle, and of those in the
middle of both halves then."""


def shares_ahead(budget: float, frames: float) -> tuple[float, ...]:
    """The shares of :data:`AHEAD` that a budget pays for between whole frames ``frames`` apart at most.

    Whole frames come first: they are as far apart as what is spent between them makes them.
    """
    left = budget * frames - 1.0
    shares = []
    for level, share in enumerate(AHEAD):
        places = 2**level
        taken = min(share, left / places)
        if taken <= 0.0:
            break
        shares.append(taken)
        left -= places * taken
    return tuple(shares)
