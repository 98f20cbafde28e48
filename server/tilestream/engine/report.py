"""What the engine tells about itself: its stores and its device, as plain numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch

from tilestream.engine.model_engine import ModelEngine
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


def engine_report(models: Iterable[ModelEngine], gauge: DeviceGauge, tiles: int) -> EngineReport:
    """The report after a step of ``tiles`` tiles."""
    gauge.refresh()
    features = [engine.features for engine in models if engine.features is not None]
    pools = [pool for each in features for pool in each.store.pools.values()]
    return EngineReport(
        device=str(gauge.device),
        tiles=tiles,
        evictions=sum(each.evictions for each in features),
        store_bytes=sum((pool.capacity - pool.available) * pool.page_bytes for pool in pools),
        store_limit_bytes=sum(pool.capacity * pool.page_bytes for pool in pools),
        store_pages=sum(pool.capacity - pool.available for pool in pools),
        store_limit_pages=sum(pool.capacity for pool in pools),
        device_memory_bytes=gauge.memory,
        device_memory_limit_bytes=gauge.memory_limit,
        device_utilisation=gauge.utilisation,
    )
