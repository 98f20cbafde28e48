"""Steps of one layout as CUDA graphs: with few sessions, launching takes longer than computing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.resident.partial.tile_sets import PackedTiles, StepTiles

_SEEN = 256  # layouts that are remembered, to know which come again


@dataclass(frozen=True, slots=True)
class _Captured:
    """``numbers`` and ``pixels`` are read, ``planes`` written, when the graph is replayed."""

    graph: torch.cuda.CUDAGraph
    numbers: Tensor
    pixels: Tensor
    planes: list[Tensor]


class StepGraphs:
    """Captures a layout of a step when it comes for the second time, ``most`` of them at a time.

    ``compute``: runs a step on its lists of tiles and pixels, uint8 [N, 3, H, W]; doing it twice has to be
    harmless.
    """

    def __init__(
        self, compute: Callable[[StepTiles, Tensor], list[Tensor]], device: torch.device, most: int
    ) -> None:
        self._compute, self._device, self._most = compute, device, most
        self._captured: OrderedDict[Hashable, _Captured] = OrderedDict()  # by last use, the oldest first
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, packed: PackedTiles, pixels: Tensor) -> tuple[StepTiles, list[Tensor]]:
        """The step's lists on the device, and what ``compute`` gives, to be used before the next step."""
        numbers, key = upload(packed.numbers, self._device), (packed.layout, pixels.shape)
        tiles = packed.unpacked(numbers)
        captured = self._captured.get(key)
        if captured is not None:
            self._captured.move_to_end(key)
            captured.numbers.copy_(numbers)
            captured.pixels.copy_(pixels)
            captured.graph.replay()
            return tiles, captured.planes
        planes = self._compute(tiles, pixels)
        if key in self._seen:
            self._capture(key, packed, numbers, pixels)
        self._seen[key] = None
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return tiles, planes

    def _capture(self, key: Hashable, packed: PackedTiles, numbers: Tensor, pixels: Tensor) -> None:
        """It has just been computed, so all that is made once is there."""
        while len(self._captured) >= self._most:
            self._captured.popitem(last=False)
        numbers, pixels, graph = numbers.clone(), pixels.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            planes = self._compute(packed.unpacked(numbers), pixels)
        self._captured[key] = _Captured(graph, numbers, pixels, planes)
