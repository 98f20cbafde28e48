"""Choosing the device and the working precision."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy.typing as npt
import torch

from tilestream.engine.options import Precision
from tilestream.messages import EngineError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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


def choose_precision(name: Precision, device: torch.device) -> tuple[str, torch.dtype]:
    """Name and dtype of the working precision. Raises :class:`EngineError` for one that the device lacks."""
    if name == "auto":
        name = "bf16" if has_fast_bf16(device) else "fp32"
    if name not in _DTYPES:
        raise EngineError(f"unknown precision {name!r}: use auto, {', '.join(_DTYPES)}")
    if name == "fp16" and device.type == "cpu":
        raise EngineError("precision fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    if name == "bf16" and device.type == "cpu" and not has_fast_bf16(device):
        raise EngineError("this CPU has no bf16 instructions; use precision fp32")
    return name, _DTYPES[name]


def upload(array: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """An array, or a tensor of the host, on the device; on CUDA without waiting, through pinned memory."""
    tensor = array if isinstance(array, torch.Tensor) else torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 convolutions run faster than fp32 ones on the device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN also says yes where it emulates bf16 with AVX-512, which is slower than fp32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return platform.machine() not in ("x86_64", "AMD64") or native is None or bool(native())
