"""How many engines there should be in processes of their own, where the settings leave that open."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

from tilestream.engine_process.handle import ask_a_process

log = logging.getLogger(__name__)

_DRIVER = "libcuda.so.1"


def count_engines(
    wanted: Literal["auto"] | int, device: str, devices: Callable[[], int] | None = None
) -> int:
    """The number of processes; 0: the engine is a thread of the server, as on a CPU.

    On GPUs one process each, so that engines and event loop don't wait for one interpreter lock. ``device``:
    as in ``EngineOptions``. ``devices`` counts GPUs.
    """
    if wanted != "auto":
        return wanted
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or sys.platform != "linux":  # engine processes need Linux
        return 0
    count = (devices or cuda_devices)()
    return min(count, 1) if number else count


def cuda_devices() -> int:
    """How many GPUs PyTorch can use. It is asked in another process: this one does without it."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:  # the quick answer, without starting a process
        return 0
    try:
        return ask_a_process(_count_devices)
    except (BrokenProcessPool, OSError, EOFError, RuntimeError) as error:
        log.warning("GPUs could not be counted: %s", error)
        return 0


def _count_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
