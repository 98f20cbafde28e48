"""How motion is searched for on the device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Search:
    """``spacing``: pixels between patches. ``means``: whether they are matched whatever their means are.

    See ``motion.estimators.DisMotion``, whose arguments these are, for what they do.
    """

    spacing: int
    means: bool


FOR_LABELS = Search(spacing=6, means=False)
"""For gates of which labels are all that is reused."""

FOR_BINS = Search(spacing=4, means=True)
"""For gates that choose bins by what the motion leaves."""
