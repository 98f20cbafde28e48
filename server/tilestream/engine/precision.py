"""Choosing the working precision."""

from __future__ import annotations

import copy
import logging
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tilestream.engine.options import Precision
from tilestream.messages import EngineError

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CHECK_SHAPE = (4, 3, 384, 768)  # a batch of frames, a multiple of any network's stride
_REPEATED = 8  # on CUDA, where a small batch takes longer to launch than to run
_WARM_UP, _RUNS = 3, 7  # passes: the first ones choose algorithms


def choose_precision(
    name: Precision,
    device: torch.device,
    networks: Sequence[nn.Module] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[str, torch.dtype]:
    """Name and dtype of the working precision. Raises :class:`EngineError` for one that the device lacks.

    "auto" is bf16 where the device has instructions for it, else fp32; on CUDA it is fp16 if ``networks``,
    eval-mode modules, all give finite scores in it and are faster together, by ``clock`` (seconds).
    """
    if name == "auto":
        name = "bf16" if has_fast_bf16(device) else "fp32"
        if device.type == "cuda" and networks and fp16_pays(networks, device, _DTYPES[name], clock):
            name = "fp16"
    if name not in _DTYPES:
        raise EngineError(f"unknown precision {name!r}: use auto, {', '.join(_DTYPES)}")
    if name == "fp16" and device.type == "cpu":
        raise EngineError("precision fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    if name == "bf16" and device.type == "cpu" and not has_fast_bf16(device):
        raise EngineError("this CPU has no bf16 instructions; use precision fp32")
    return name, _DTYPES[name]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 convolutions run faster than fp32 ones on the device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN also says yes where it emulates bf16 with AVX-512, which is slower than fp32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return platform.machine() not in ("x86_64", "AMD64") or native is None or bool(native())


@torch.inference_mode()
def fp16_pays(
    networks: Sequence[nn.Module], device: torch.device, other: torch.dtype, clock: Callable[[], float]
) -> bool:
    """Whether the networks are faster in fp16 than in ``other``, and none of its scores there is infinite."""
    seconds = {torch.float16: 0.0, other: 0.0}
    for network in networks:
        for dtype in seconds:
            trial = _Trial(network, device, dtype, clock)
            if dtype is torch.float16 and not trial.is_finite():
                logger.info("a network overflows in fp16", extra={"network": type(network).__name__})
                return False
            seconds[dtype] += trial.seconds()
    milliseconds = {str(dtype).removeprefix("torch."): round(1e3 * s, 2) for dtype, s in seconds.items()}
    logger.info("networks were timed", extra=milliseconds)
    return seconds[torch.float16] < seconds[other]


class _Trial:
    """A copy of a network in another precision, and what it is tried with."""

    def __init__(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype, clock: Callable[[], float]
    ) -> None:
        moved = copy.deepcopy(network).to(device, dtype)
        self._network = moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        frames = _check_input().repeat(_REPEATED if device.type == "cuda" else 1, 1, 1, 1)
        self._input = frames.to(device, dtype).to(memory_format=torch.channels_last)
        self._device, self._clock = device, clock

    def is_finite(self) -> bool:
        """Whether all scores are numbers."""
        return bool(torch.isfinite(self._network(self._input)).all())

    def seconds(self) -> float:
        """Median of a few passes."""
        return statistics.median([self._pass() for _ in range(_WARM_UP + _RUNS)][_WARM_UP:])

    def _pass(self) -> float:
        self._synchronize()
        began = self._clock()
        self._network(self._input)
        self._synchronize()
        return self._clock() - began

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _check_input() -> Tensor:
    """Normalised frames: noise, a pattern of edges, the darkest and the brightest that there can be."""
    frames = torch.empty(_CHECK_SHAPE)
    frames[0] = torch.randn(_CHECK_SHAPE[1:], generator=torch.Generator().manual_seed(0))
    frames[1] = torch.linspace(0.0, 40.0, _CHECK_SHAPE[3]).sin().sign() * 2.6  # white is at most 2.64
    frames[2], frames[3] = -2.2, 2.7
    return frames
