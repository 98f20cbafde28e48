"""Choosing the device, and getting data onto it."""

from __future__ import annotations

import os
from typing import Any

import numpy.typing as npt
import torch

from tilestream.messages import EngineError


def choose_device(name: str) -> torch.device:
    """The torch device for a setting; "auto" is CUDA where there is one. Raises :class:`EngineError`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise EngineError(f"device {name!r} is not supported: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineError(
            f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices were found"
        )
    return device


def divide(device: torch.device, threads: int, part: tuple[int, int]) -> tuple[torch.device, int]:
    """The device and the CPU threads (0: as many as there are cores) of engine i of n, see EngineOptions."""
    number, count = part
    if device.type == "cuda" and device.index is None and count > 1:
        device = torch.device("cuda", number % torch.cuda.device_count())
    if not threads and count > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // count)
    return device, threads


def upload(array: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """An array, or a tensor of the host, on the device; on CUDA without waiting, through pinned memory."""
    tensor = array if isinstance(array, torch.Tensor) else torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
