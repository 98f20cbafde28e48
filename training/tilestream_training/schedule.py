"""Learning rate over the steps of a run: warm up, stay, decay.

The plateau needs no end that is known beforehand, so a run can be prolonged, and the decay branched
off wherever one likes (Hu et al., MiniCPM, arXiv 2404.06395).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmupStableDecay:
    """Factor on the base learning rate at each step."""

    total: int
    warmup: int
    decay: int
    floor: float = 0.01

    def factor(self, step: int) -> float:
        """Linear up over ``warmup`` steps, 1, then linear down to ``floor`` over the last ``decay`` steps."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        left = self.total - step
        if left >= self.decay or self.decay == 0:
            return 1.0
        return max(self.floor, left / self.decay)


@dataclass(frozen=True, slots=True)
class WarmupStableDecayInTime:
    """The same for a run that ends by the clock. ``total``, ``decay``: seconds; ``warmup``: steps."""

    total: float
    warmup: int
    decay: float
    floor: float = 0.01

    def factor(self, step: int, seconds: float) -> float:
        """``seconds``: what the run has taken so far, all its parts together."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        left = self.total - seconds
        return 1.0 if left >= self.decay else max(self.floor, left / self.decay)
