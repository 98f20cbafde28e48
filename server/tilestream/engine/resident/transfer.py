"""Between host and device: many small arrays in one copy, so that a step has few of them and waits rarely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_ALIGNMENT = 16  # bytes, so that every array can be seen as its dtype


def upload_all(arrays: Sequence[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Arrays on the device, by one copy that is not waited for."""
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    if device.type == "cpu":
        return tensors
    flat = torch.empty(sum(_padded(tensor) for tensor in tensors), dtype=torch.uint8, pin_memory=True)
    _pack(tensors, flat)
    return _unpack(flat.to(device, non_blocking=True), tensors)


def fetch_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the device on the host, by one copy and one wait."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    device = tensors[0].device
    flat = torch.empty(sum(_padded(tensor) for tensor in tensors), dtype=torch.uint8, device=device)
    _pack(tensors, flat)
    host = torch.empty(flat.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(flat, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    event.synchronize()  # lets other threads go on, unlike the wait of a plain copy
    return _unpack(host, tensors)


def _padded(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT


def _pack(tensors: Sequence[Tensor], flat: Tensor) -> None:
    begin = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if size:
            flat[begin : begin + size].view(tensor.dtype).view(tensor.shape).copy_(tensor)
        begin += _padded(tensor)


def _unpack(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts, begin = [], 0
    for tensor in like:
        size = tensor.numel() * tensor.element_size()
        parts.append(flat[begin : begin + size].view(tensor.dtype).view(tensor.shape))
        begin += _padded(tensor)
    return parts
