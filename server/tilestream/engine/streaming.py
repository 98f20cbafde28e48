"""One video, frame by frame, from Python: the reuse engine without a server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tilestream.engine.device import choose_device, choose_precision
from tilestream.engine.frame import FrameAnswer, FrameRequest
from tilestream.engine.gates.gate import Gate
from tilestream.engine.memory.state import SessionState
from tilestream.engine.model_engine import ReuseEngine, ReuseOptions
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.options import Precision
from tilestream.engine.tiles.masks import Mask
from tilestream.messages import FrameStats, UInt8Array

_SESSION = "the only one"
_DEFAULTS = ReuseOptions()


class StreamingSegmenter:
    """Segments the frames of one video, computing only what changed.

    ``module``: any network that :func:`~tilestream.engine.lowering.lower.lower` takes, in fp32 on the CPU.
    ``budget``: share (0..1] of the block units that a frame may compute. ``precision``: auto, fp32, bf16 or
    fp16; ``device``: auto, cpu, cuda or cuda:N. ``mean``, ``std``: of RGB in 0..1, by default the module's
    own. ``gate``, ``motion``: what decides, and what it is told; by default the budget's share of bins
    with the most distortion, and DIS optical flow. ``dense_above``: from this share of kept units on a
    frame is computed in full. ``fusion``: see ``ReuseOptions``, ``phase``: see ``SessionSpec``.
    Raises :class:`~tilestream.engine.lowering.program.LoweringError` for a network
    that cannot be run on tiles, :class:`~tilestream.messages.EngineError` for a device or precision that is
    not there, ValueError for other arguments.
    """

    def __init__(
        self,
        module: nn.Module,
        bin_size: int = 64,
        budget: float = 0.33,
        precision: Precision = "fp32",
        device: str = "cpu",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        gate: Gate | None = None,
        motion: MotionEstimator | None = None,
        dense_above: float = _DEFAULTS.dense_above,
        store_bytes: int = _DEFAULTS.store_bytes,
        fusion: float = _DEFAULTS.fusion,
        phase: float = 0.0,
    ) -> None:
        if not 0.0 < budget <= 1.0:
            raise ValueError(f"budget: {budget}; allowed: above 0, at most 1")
        mean, std = (_statistics(module, name, given) for name, given in (("mean", mean), ("std", std)))
        chosen = choose_device(device)
        _, dtype = choose_precision(precision, chosen)
        options = ReuseOptions(
            bin_size=bin_size, dense_above=dense_above, store_bytes=store_bytes, fusion=fusion
        )
        self.budget, self._phase = budget, phase
        self.engine = ReuseEngine(module, chosen, dtype, mean, std, options, gate, motion)

    def __call__(self, frame: UInt8Array, keep: bool | Mask | None = None) -> tuple[UInt8Array, FrameStats]:
        """The next frame: uint8 [H, W, 3] RGB -> labels uint8 [H, W], and what they cost.

        ``keep`` forces what is computed: True, False, bool [bins_h, bins_w] or [units, bins_h, bins_w].
        """
        answer = self.answer(frame, keep)
        return answer.labels, answer.stats

    def answer(
        self,
        frame: UInt8Array,
        keep: bool | Mask | None = None,
        *,
        key: bool = False,
        confidence: bool = False,
    ) -> FrameAnswer:
        """The same with the account per bin and, if asked for, the confidence. ``key``: in full."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise ValueError(f"frame: {frame.dtype} {list(frame.shape)}; has to be uint8 [H, W, 3]")
        request = FrameRequest(_SESSION, frame, key, self.budget, keep, confidence, phase=self._phase)
        return self.engine.step([request])[0]

    @property
    def state(self) -> SessionState | None:
        """What is remembered of the video; None before its first frame."""
        return self.engine.session(_SESSION)

    def reset(self) -> None:
        """Forget the video; the next frame is a key frame."""
        self.engine.release(_SESSION)


def _statistics(module: nn.Module, name: str, given: Sequence[float] | None) -> tuple[float, ...]:
    values = getattr(module, name, None) if given is None else given
    if values is None:
        raise ValueError(f"{name}: the module has none of its own, so it has to be given (of RGB in 0..1)")
    result = tuple(float(v) for v in torch.as_tensor(values).flatten())
    if len(result) != 3:
        raise ValueError(f"{name}: {result}; has to be three numbers, for red, green and blue")
    return result
