"""The closed loop of a session: what a gate expected to be wrong against what turned out to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilestream.engine.gates.agreement import Agreement
from tilestream.messages import Float32Array

START = 0.02
"""Share of wrong pixels that both sides begin with, as in driving: a few quiet frames are no proof."""

RATE = 0.125
"""Weight of a frame that was computed in full, against all before it; of others, their share of that. So it
takes some eight whole frames to believe something: two seconds at 15 Hz and a quarter of the work."""

LIMIT = 4.0
"""The most that risks are scaled by, up or down: a wrong gate is corrected, a useless one not run wild."""


@dataclass(slots=True)
class RiskCalibration:
    """Moving means, of the bins that were computed, of the risk that the gate expected and of what came true.

    Both are shares of pixels. Means rather than the last frame's ratio, so that frames count by what was at
    stake in them. ``expected`` is before scaling, so the loop does not feed on itself.
    """

    expected: float = START
    measured: float = START

    @property
    def scale(self) -> float:
        """What to multiply the gate's risks by: 1 / LIMIT .. LIMIT, 1 for a gate that is right."""
        return min(max(self.measured / max(self.expected, 1e-6), 1.0 / LIMIT), LIMIT)

    def observe(self, risk: Float32Array, agreement: Agreement) -> None:
        """A frame's risks, float32 [bins_h, bins_w], and what its computed bins told.

        Bins that the gate did not judge, with a risk of 0, do not count: where nothing changes, labels differ
        by what noise does to the network, and computing them again would not help.
        """
        judged = np.where(risk > 0, agreement.pixels, 0)
        pixels = int(judged.sum())
        if not pixels:
            return
        rate = RATE * pixels / agreement.frame
        self.expected += rate * (float((risk * judged).sum()) / pixels - self.expected)
        self.measured += rate * (int(agreement.changed[judged > 0].sum()) / pixels - self.measured)
