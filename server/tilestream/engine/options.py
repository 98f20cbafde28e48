"""What an engine is made of. Free of torch, so that settings can be checked before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """``models``: names of shipped models or paths of weight files; empty = all shipped ones.

    ``device``: "auto", "cpu", "cuda" or "cuda:N". ``precision``: "auto" is bf16 where the device has
    instructions for it, else fp32. ``threads``: of the CPU, 0 = one per core. ``bin_size``: pixels.
    """

    models: tuple[str, ...] = ()
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    bin_size: int = 64
