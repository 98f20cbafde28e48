"""What an engine is made of. Free of torch, so that settings can be checked before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]

BLOCK_BUDGET = 0.5
"""Share of the block units that a frame may compute, unless something else is asked for."""

DENSE_ABOVE = 0.75
"""Share of kept units from which on a frame is computed in full: that is faster then."""

FUSION = 0.35
"""What the scores of the whole frame before count for in a whole frame, where they fit perfectly."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """``models``: names of shipped models or paths of weight files; empty = all shipped ones.

    ``device``: "auto", "cpu", "cuda" or "cuda:N". ``precision``: "auto" is what ``choose_precision`` finds
    fastest, one for all models. ``threads``: of the CPU, 0 = one per core. ``bin_size``: pixels, a power
    of two. ``gate``: what decides what is computed, see ``gates.registry``. ``store_bytes``: memory
    for the features of all sessions, divided among the models; 0 = what the host allows. ``part``: (i, n),
    this is engine i of n; each takes its share of the CPU's cores, or another GPU where ``device`` does not
    name one. ``fusion``: see ``ReuseOptions``.
    """

    models: tuple[str, ...] = ()
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    bin_size: int = 64
    gate: str = "auto"
    store_bytes: int = 1 << 30
    part: tuple[int, int] = (0, 1)
    fusion: float = FUSION

    def share(self, number: int, count: int) -> EngineOptions:
        """The options of engine ``number`` of ``count``. Memory is divided as well."""
        return replace(self, part=(number, count), store_bytes=self.store_bytes // count)
