"""One video, frame by frame, from Python: the reuse engine without a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tilestream.engine.arrays import Mask
from tilestream.engine.device import choose_device
from tilestream.engine.gates.gate import Gate
from tilestream.engine.gates.registry import AUTO, gate_kind
from tilestream.engine.memory.state import SessionState
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.options import BLOCK_BUDGET, Precision
from tilestream.engine.precision import choose_precision
from tilestream.label_runs import label_map
from tilestream.messages import Frame, FrameStats, Grant, Outcome, Picture, SessionSpec, UInt8Array
from tilestream.models import weights_of

_SESSION = "the only one"
_DEFAULTS = ReuseOptions()


class StreamingSegmenter:
    """Segments the frames of one video, computing only what changed.

    ``module``: any network that :func:`~tilestream.engine.lowering.lower.lower` takes, in fp32 on the CPU.
    ``budget``: share (0..1] of the block units that a frame may compute. ``precision``: auto, fp32, bf16 or
    fp16; ``device``: auto, cpu, cuda or cuda:N. ``mean``, ``std``: of RGB in 0..1, by default the module's
    own. ``gate``: what decides, a name (see ``gates.registry``) or a gate of your own; ``motion``: what finds
    what moved, by default what suits the gate. ``dense_above``: from this share of kept units on a
    frame is computed in full. ``fusion``: see ``ReuseOptions``, ``phase``: see ``SessionSpec``.
    ``look_ahead``: frames that labels may wait for, so that they come from both sides; see :meth:`stream`.
    Raises :class:`~tilestream.engine.lowering.program.LoweringError` for a network that cannot be run on
    tiles, :class:`~tilestream.messages.EngineError` for a device, precision or trained gate that is not
    there, ValueError for other arguments.
    """

    def __init__(
        self,
        module: nn.Module,
        bin_size: int = 64,
        budget: float = BLOCK_BUDGET,
        precision: Precision = "fp32",
        device: str = "cpu",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        gate: str | Gate = AUTO,
        motion: MotionEstimator | None = None,
        dense_above: float = _DEFAULTS.dense_above,
        store_bytes: int = _DEFAULTS.store_bytes,
        fusion: float = _DEFAULTS.fusion,
        phase: float = 0.0,
        look_ahead: int = 0,
    ) -> None:
        if not 0.0 < budget <= 1.0:
            raise ValueError(f"budget: {budget}; allowed: above 0, at most 1")
        mean, std = (_statistics(module, name, given) for name, given in (("mean", mean), ("std", std)))
        if look_ahead < 0:
            raise ValueError(f"look_ahead: {look_ahead}; allowed: 0 or more frames")
        chosen = choose_device(device)
        _, dtype = choose_precision(precision, chosen, [module])
        if isinstance(gate, str):
            model = weights_of(module)
            kind = gate_kind(gate, model)
            gate, motion = kind.make(model or "", bin_size), motion or kind.motion()
        options = ReuseOptions(
            bin_size=bin_size, dense_above=dense_above, store_bytes=store_bytes, fusion=fusion
        )
        self.budget = budget
        self.engine = ModelEngine(module, chosen, dtype, mean, std, gate, options, motion)
        if look_ahead and not self.engine.looks_ahead:
            raise ValueError(
                "look_ahead: the gate computes bins in every frame; it takes one of whole frames"
            )
        self._spec = SessionSpec(_SESSION, "", bins=True, phase=phase, retain=True, max_delay=look_ahead)
        self.engine.open(self._spec)
        self._frames = 0
        self._waiting: dict[int, Outcome] = {}

    def __call__(self, frame: UInt8Array, keep: bool | Mask | None = None) -> tuple[UInt8Array, FrameStats]:
        """The next frame: uint8 [H, W, 3] RGB -> labels uint8 [H, W], and what they cost.

        ``keep`` forces what is computed: True, False, bool [bins_h, bins_w] or [units, bins_h, bins_w].
        Raises ValueError where labels may wait for later frames: those have :meth:`stream`.
        """
        return _labelled(self.outcome(frame, keep))

    def stream(self, frames: Iterable[UInt8Array]) -> Iterator[tuple[UInt8Array, FrameStats]]:
        """Frame by frame as above, in their order; with ``look_ahead`` up to so many frames later."""
        for frame in frames:
            yield from map(_labelled, self.advance(frame))
        yield from map(_labelled, self.finish())

    def advance(self, frame: UInt8Array) -> list[Outcome]:
        """Take the next frame: outcomes that have their labels now, each frame's once and in their order."""
        self._waiting |= {outcome.frame_id: outcome for outcome in self._step(frame)}
        ready = []
        for frame_id in sorted(self._waiting):
            if self._waiting[frame_id].labels is None:
                break
            ready.append(self._waiting.pop(frame_id))
        return ready

    def finish(self) -> list[Outcome]:
        """Outcomes of the frames that wait, as if none came after them."""
        self._waiting.clear()
        return self.engine.finish(_SESSION, self._frames)

    def outcome(
        self,
        frame: UInt8Array,
        keep: bool | Mask | None = None,
        *,
        whole: bool = False,
        confidence: bool = False,
    ) -> Outcome:
        """The same with the account per bin and, if asked for, the confidence. ``whole``: in full."""
        if self._spec.max_delay:
            raise ValueError("look_ahead: labels come later; ask stream() for them")
        if confidence and not self._spec.confidence:
            self._spec = replace(self._spec, confidence=True)
            self.engine.open(self._spec)
        [outcome] = self._step(frame, keep, whole=whole)
        return outcome if confidence else replace(outcome, confidence=None)

    def _step(
        self, frame: UInt8Array, keep: bool | Mask | None = None, *, whole: bool = False
    ) -> list[Outcome]:
        """Outcomes of the frame and of those that have waited for it."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise ValueError(f"frame: {frame.dtype} {list(frame.shape)}; has to be uint8 [H, W, 3]")
        self._frames += 1
        size = (frame.shape[1], frame.shape[0])
        picture = Picture(*size, size, frame)
        asked = Frame(_SESSION, self._frames, picture, whole, captured=float(self._frames))
        forced = {} if keep is None else {_SESSION: keep}
        return self.engine.step([(asked, Grant(self.budget))], forced)

    @property
    def state(self) -> SessionState | None:
        """What is remembered of the video; None before its first frame."""
        return self.engine.session(_SESSION)

    def reset(self) -> None:
        """Forget the video, and frames that wait; the next one is a whole frame."""
        self._waiting.clear()
        self.engine.restart(_SESSION)


def _labelled(outcome: Outcome) -> tuple[UInt8Array, FrameStats]:
    if outcome.labels is None or outcome.stats is None:
        raise RuntimeError("the engine gave no labels")
    return label_map(outcome.labels), outcome.stats


def _statistics(module: nn.Module, name: str, given: Sequence[float] | None) -> tuple[float, ...]:
    values = getattr(module, name, None) if given is None else given
    if values is None:
        raise ValueError(f"{name}: the module has none of its own, so it has to be given (of RGB in 0..1)")
    result = tuple(float(v) for v in torch.as_tensor(values).flatten())
    if len(result) != 3:
        raise ValueError(f"{name}: {result}; has to be three numbers, for red, green and blue")
    return result
