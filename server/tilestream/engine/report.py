"""What the engine tells about itself: its stores and its device, as plain numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import torch

from tilestream.engine.memory.usage import MemoryUsage
from tilestream.messages import EngineReport

_DEVICE_SECONDS = 1.0  # asking a driver takes longer than a step may


class DeviceGauge:
    """Memory and utilisation of a CUDA device, asked for at most once a second. Others tell nothing."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self.device, self._clock = device, clock
        self._next = 0.0
        self.memory: int | None = None
        self.memory_limit: int | None = None
        self.utilisation: float | None = None

    def refresh(self) -> None:
        """Ask the device again if it is time."""
        if self.device.type != "cuda" or self._clock() < self._next:
            return
        self._next = self._clock() + _DEVICE_SECONDS
        free, self.memory_limit = torch.cuda.mem_get_info(self.device)
        self.memory = self.memory_limit - free
        try:
            self.utilisation = torch.cuda.utilization(self.device) / 100
        except (ModuleNotFoundError, RuntimeError):  # the driver's Python package is not installed
            self.utilisation = None


class Remembers(Protocol):
    """The engine of a model, which keeps something of its sessions."""

    def usage(self) -> MemoryUsage:
        """What of its memory is in use."""


def engine_report(models: Iterable[Remembers], gauge: DeviceGauge, tiles: int) -> EngineReport:
    """The report after a step of ``tiles`` tiles."""
    gauge.refresh()
    usages = [engine.usage() for engine in models]
    return EngineReport(
        device=str(gauge.device),
        tiles=tiles,
        evictions=sum(usage.evictions for usage in usages),
        store_bytes=sum(usage.bytes for usage in usages),
        store_limit_bytes=sum(usage.limit_bytes for usage in usages),
        store_pages=sum(usage.pages for usage in usages),
        store_limit_pages=sum(usage.limit_pages for usage in usages),
        device_memory_bytes=gauge.memory,
        device_memory_limit_bytes=gauge.memory_limit,
        device_utilisation=gauge.utilisation,
    )
