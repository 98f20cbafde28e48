"""What a step computed, on its way to the host: fetched together, so that the host waits for it once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Use = Callable[..., None]


class Readback:
    """Collects uint8 maps while the device still computes them, and hands them over on the host."""

    def __init__(self) -> None:
        self._waiting: list[tuple[list[Tensor], Use]] = []

    def add(self, maps: Sequence[Tensor], use: Use) -> None:
        """Have ``use(*maps)`` called with these maps, uint8 of any shape, once they are fetched."""
        self._waiting.append((list(maps), use))

    def fetch(self) -> None:
        """Wait for all maps and hand them over, in the order in which they were added."""
        maps = [tensor for group, _ in self._waiting for tensor in group]
        fetched = iter(_fetched(maps))
        for group, use in self._waiting:
            use(*(next(fetched) for _ in group))
        self._waiting.clear()


def _fetched(maps: list[Tensor]) -> list[Tensor]:
    if _on_host(maps):
        return maps
    flat = torch.cat([tensor.reshape(-1) for tensor in maps]).cpu()  # one copy, and the only wait
    parts = flat.split([math.prod(tensor.shape) for tensor in maps])
    return [part.view(tensor.shape) for part, tensor in zip(parts, maps, strict=True)]


def _on_host(maps: list[Tensor]) -> bool:
    return all(tensor.device.type == "cpu" for tensor in maps)
