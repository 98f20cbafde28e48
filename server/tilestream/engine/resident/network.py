"""Whole frames through the network in batches of few sizes, captured as CUDA graphs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.resident.captured import Captured, GraphPool
from tilestream.engine.resident.operations import Operations

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Batches that are captured: of more frames the device takes longer than the host needs to launch them."""

_PREPARED = 40  # batches at most: each holds its input

_MOST_WITH_FEATURES = 4  # frames in a batch: a graph holds its results, and the features of a frame are large

TakeFeatures = Callable[[int, dict[str, Tensor]], None]
"""Told of which frame on, and the kept maps [n, C, h, w] by name; they are good during the call only."""


class BatchedNetwork:
    """``mean``, ``std``: of RGB in 0..1."""

    def __init__(
        self,
        dense: DenseExecutor,
        ops: Operations,
        mean: Sequence[float],
        std: Sequence[float],
        pool: GraphPool,
    ) -> None:
        self._dense, self._ops, self._pool = dense, ops, pool
        deviation = torch.tensor(std, dtype=torch.float32)
        self._scale = (1.0 / (255.0 * deviation)).to(dense.device)
        self._shift = (-torch.tensor(mean, dtype=torch.float32) / deviation).to(dense.device)
        self._prepared: OrderedDict[tuple[int, ...], tuple[Tensor, Captured[tuple[Tensor, ...]]]] = (
            OrderedDict()
        )

    def scores(self, pixels: Tensor, rows: Tensor, take: TakeFeatures | None = None) -> Tensor:
        """Class scores [K, C, h, w] of the frames ``rows`` int64 [K] of pixels uint8 [N, 3, H, W].

        ``take``: called with the features of every batch, where the network gives any.
        """
        parts, begin = [], 0
        for size, bucket in batches(len(rows), _MOST_WITH_FEATURES if self._dense.kept else BUCKETS[-1]):
            *kept, scores = self._run(pixels, rows[begin : begin + size], bucket)
            parts.append(scores[:size].clone())
            if take is not None:
                maps = zip(self._dense.kept, kept, strict=True)
                take(begin, {name: each[:size] for name, each in maps})
            begin += size
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, pixels: Tensor, rows: Tensor, bucket: int) -> tuple[Tensor, ...]:
        stride = self._dense.stride
        height, width = (-(-side // stride) * stride for side in pixels.shape[2:])
        x, network = self._prepare((bucket, 3, height, width))
        self._ops.normalized(pixels, rows, self._scale, self._shift, x)
        return network()

    def _prepare(self, shape: tuple[int, ...]) -> tuple[Tensor, Captured[tuple[Tensor, ...]]]:
        """The input of a batch, [b, 3, H, W], and what makes its kept maps and scores."""
        if shape not in self._prepared:
            if len(self._prepared) >= _PREPARED:
                self._prepared.popitem(last=False)
            x = torch.zeros(shape, device=self._dense.device, dtype=self._dense.dtype)
            x = x.contiguous(memory_format=torch.channels_last)
            self._prepared[shape] = x, Captured(lambda: self._dense.network(x), self._pool)
        self._prepared.move_to_end(shape)
        return self._prepared[shape]


def batches(count: int, most: int = BUCKETS[-1]) -> list[tuple[int, int]]:
    """``count`` frames in batches of at most so many: how many are in each, and the bucket for them."""
    parts = []
    while count > 0:
        size = min(count, most)
        parts.append((size, next(bucket for bucket in BUCKETS if bucket >= size)))
        count -= size
    return parts
