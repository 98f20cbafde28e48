"""Whole frames through the network in batches of few sizes, as CUDA graphs where the host would be the slower one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.resident.operations import Operations

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Batches that are captured: of more frames the device takes longer than the host needs to launch them."""

_GRAPHS = 40  # at most; each holds its input, and all share the memory of what lies between
_CAPTURE_AFTER = 2  # runs of one shape


@dataclass(slots=True)
class _Prepared:
    """A batch of one shape: ``x`` [b, 3, H, W], its input, and if it was captured the graph and its ``scores``."""

    x: Tensor
    runs: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    scores: Tensor | None = None


class BatchedNetwork:
    """``mean``, ``std``: of RGB in 0..1."""

    def __init__(
        self, dense: DenseExecutor, ops: Operations, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self._dense, self._ops = dense, ops
        deviation = torch.tensor(std, dtype=torch.float32)
        self._scale = (1.0 / (255.0 * deviation)).to(dense.device)
        self._shift = (-torch.tensor(mean, dtype=torch.float32) / deviation).to(dense.device)
        self._prepared: OrderedDict[tuple[int, ...], _Prepared] = OrderedDict()
        self._pool: tuple[int, int] | None = None

    def scores(self, pixels: Tensor, rows: Tensor) -> Tensor:
        """Class scores [K, C, h, w] of the frames ``rows`` int64 [K] of pixels uint8 [N, 3, H, W]."""
        parts, begin = [], 0
        for size, bucket in batches(len(rows)):
            parts.append(self._run(pixels, rows[begin : begin + size], bucket))
            begin += size
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, pixels: Tensor, rows: Tensor, bucket: int) -> Tensor:
        stride = self._dense.stride
        height, width = (-(-side // stride) * stride for side in pixels.shape[2:])
        prepared = self._prepare((bucket, 3, height, width))
        self._ops.normalized(pixels, rows, self._scale, self._shift, prepared.x)
        if prepared.graph is not None and prepared.scores is not None:
            prepared.graph.replay()
            return prepared.scores[: len(rows)].clone()  # the next graph writes over it
        prepared.runs += 1
        scores: Tensor = self._dense.network(prepared.x)[-1][: len(rows)]
        if prepared.runs >= _CAPTURE_AFTER and self._dense.device.type == "cuda":
            self._capture(prepared)
        return scores

    def _prepare(self, shape: tuple[int, ...]) -> _Prepared:
        if shape not in self._prepared:
            if len(self._prepared) >= _GRAPHS:
                self._prepared.popitem(last=False)
            x = torch.zeros(shape, device=self._dense.device, dtype=self._dense.dtype)
            self._prepared[shape] = _Prepared(x.contiguous(memory_format=torch.channels_last))
        self._prepared.move_to_end(shape)
        return self._prepared[shape]

    def _capture(self, prepared: _Prepared) -> None:
        """The network's launches for this batch as one. Other threads may use the device meanwhile."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            prepared.scores = self._dense.network(prepared.x)[-1]
        prepared.graph = graph


def batches(count: int) -> list[tuple[int, int]]:
    """``count`` frames in batches: how many are in each, and the bucket that they are run in."""
    largest, parts = BUCKETS[-1], []
    while count > 0:
        size = min(count, largest)
        parts.append((size, next(bucket for bucket in BUCKETS if bucket >= size)))
        count -= size
    return parts
