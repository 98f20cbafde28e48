"""Which implementation of the step's operations a device has."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor

from tilestream.engine.resident import reference
from tilestream.engine.resident.search import Search

log = logging.getLogger(__name__)


class Operations(Protocol):
    """See ``reference`` for what they do."""

    def luma(self, pixels: Tensor, scale: int) -> Tensor: ...

    def flow(self, previous: Tensor, current: Tensor, expected: Tensor, how: Search) -> Tensor: ...

    def moved_labels(
        self, table: Tensor, slots: Tensor, displacement: Tensor, scale: int, step: int = 1
    ) -> Tensor: ...

    def best_labels(self, scores: Tensor, factor: int, out: Tensor) -> None: ...

    def normalized(self, pixels: Tensor, rows: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None: ...

    def label_runs(self, labels: Tensor, capacity: int) -> Tensor: ...


def operations_for(device: torch.device) -> Operations:
    """Triton's kernels on CUDA, if Triton is there; else plain torch."""
    if device.type == "cuda":
        try:
            from tilestream.engine.resident import kernels
        except ImportError:
            log.warning("Triton is not installed: motion and labels are computed by plain torch, slower")
        else:
            return kernels
    return reference
