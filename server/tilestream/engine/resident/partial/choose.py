"""Which kernels a device has."""

from __future__ import annotations

import torch

from tilestream.engine.resident.partial.kernels import RowKernels


def choose_kernels(device: torch.device) -> RowKernels:
    """Triton's where it is installed and the device is one of its own, else those of plain torch."""
    if device.type == "cuda":
        try:
            from tilestream.engine.resident.partial.triton_rows import TritonRowKernels
        except ImportError:
            return RowKernels()
        return TritonRowKernels()
    return RowKernels()
