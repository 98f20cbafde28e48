"""Labels on their way to the host: where they change, found on the device, in one buffer for all frames.

The buffer is int32 [n + capacity]: first where each frame's runs end, counted over all frames, then of each
run label << 24 | first pixel. Making it waits for nothing; if there were more runs than its capacity, it is
made once more.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tilestream.engine.resident.operations import Operations
from tilestream.label_runs import LabelRuns

MOST_PIXELS = 1 << 24
"""Of a frame whose labels can be told in runs."""

_PER_FRAME = 8192  # runs that there is room for at first
_SPARE = 1.25


class RunWriter:
    """Makes buffers with a little more room than was needed lately."""

    def __init__(self, ops: Operations) -> None:
        self._ops, self._per_frame = ops, float(_PER_FRAME)

    def write(self, labels: Tensor) -> Tensor:
        """The buffer of labels uint8 [n, H, W]."""
        return self._ops.label_runs(labels, int(len(labels) * self._per_frame) + 1)

    def rewrite(self, labels: Tensor, buffer: Tensor) -> Tensor | None:
        """A larger one, if the runs of these ``labels`` did not fit into ``buffer``, which is on the host."""
        count = len(labels)
        needed = int(buffer[count - 1])
        self._per_frame = max(0.99 * self._per_frame, _SPARE * needed / count)
        return self._ops.label_runs(labels, needed) if needed > len(buffer) - count else None


def read_runs(buffer: Tensor, count: int, size: tuple[int, int]) -> list[LabelRuns]:
    """The runs of ``count`` frames of ``size`` (H, W) from a buffer on the host; they share memory."""
    numbers = buffer.numpy()
    ends, runs = numbers[:count], numbers[count:]
    values, starts = (runs >> 24).astype(np.uint8), runs & (MOST_PIXELS - 1)
    height, width = size
    begins = np.concatenate(([0], ends[:-1]))
    return [
        LabelRuns(width, height, starts[begin:end], values[begin:end])
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
