"""Choosing the device, and getting data onto it."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch

from tilestream.messages import EngineError
from tilestream.resources import limit_opencv, resources

_STORE_BYTES = 2 << 30
_LEAST_STORE_BYTES = 16 << 20  # a few sessions' features at 480x360
_STORE_SHARE = 3  # of the memory; weights, frames and PyTorch itself need the rest


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
        threads = max(1, resources().cores // count)
    return device, threads


def use_threads(threads: int, cores: int) -> None:
    """Compute with so many threads; 0: as PyTorch chooses. PyTorch and OpenCV count the machine's cores.

    ``cores``: there are for this process; more threads than that only get in each other's way.
    """
    if threads or torch.get_num_threads() > cores:
        torch.set_num_threads(threads or cores)
    limit_opencv(cores)


def default_store_bytes(device: torch.device, memory: int | None, part: tuple[int, int]) -> int:
    """Memory for features, of engine i of n, where the settings leave it open.

    ``memory``: bytes of the host, None where that is not known. On a GPU features are in that one's memory.
    """
    on_host = device.type == "cpu" and memory is not None
    bytes_of_all = min(_STORE_BYTES, memory // _STORE_SHARE) if on_host and memory else _STORE_BYTES
    return max(_LEAST_STORE_BYTES, bytes_of_all // part[1])


def upload(array: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """An array, or a tensor of the host, on the device; on CUDA without waiting, through pinned memory."""
    tensor = array if isinstance(array, torch.Tensor) else torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
