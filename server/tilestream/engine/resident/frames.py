"""Frames of a step on their way through the engine of a GPU, in batches of one size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.arrays import Mask
from tilestream.engine.gates.agreement import Agreement
from tilestream.engine.gates.calibration import RiskCalibration
from tilestream.engine.resident.slots import Size, Slots, SlotTable
from tilestream.label_runs import LabelRuns
from tilestream.messages import Float32Array, Frame, Grant, SessionSpec, UInt8Array
from tilestream.scheduling.credit import Credit

_SIZES = 4  # of frames, whose buffers are kept


@dataclass(slots=True)
class ResidentSession:
    """What the host remembers of a session; the rest is in its slot.

    ``size``: H, W of its frames. ``ready``: its slot has the labels of an earlier frame. ``scored``: and the
    scores of a whole one. ``confident``: and confidence is kept with its labels. ``since_whole``: frames.
    ``averaged``: see ``memory.state``. ``since_source``, ``refreshed``: 0, as no gate that refreshes bins
    is run here.
    """

    size: Size
    credit: Credit
    calibration: RiskCalibration = field(default_factory=RiskCalibration)
    ready: bool = False
    scored: bool = False
    confident: bool = False
    since_whole: int = 0
    since_source: int = 0
    looks_ahead: bool = False
    refreshed: int = 0
    averaged: int = 0

    def invalidate(self) -> None:
        """Its slot is gone: the next frame has to be computed in full."""
        self.ready, self.scored, self.averaged = False, False, 0


@dataclass(slots=True)
class ResidentFrame:
    """One frame in a step.

    ``slot``: of its session, None where nothing of it is kept. ``forced``: bool [units, bins_h, bins_w], what
    is computed whatever the gate says. As the step finds out: ``cut``, ``still`` and ``resembles`` (the
    session's latest whole frame), ``distortion``, ``age`` and ``risk``, float32 [bins_h, bins_w], ``whole``;
    where some of it is computed on tiles ``keep``, like ``forced``, and ``masks``, what that means for every
    stage of the program; of the answer ``labels`` and ``confidence``, ``agreement``; ``seconds``: its share
    of the step's time by stage.
    """

    frame: Frame
    grant: Grant
    spec: SessionSpec
    session: ResidentSession
    pixels: Tensor
    slot: int | None = None
    forced: Mask | None = None
    compared: bool = False
    cut: bool = False
    still: bool = False
    resembles: bool = False
    whole: bool = False
    keep: Mask | None = None
    masks: list[Mask] = field(default_factory=list)
    distortion: Float32Array | None = None
    age: Float32Array | None = None
    risk: Float32Array | None = None
    labels: LabelRuns | None = None
    confidence: UInt8Array | None = None
    agreement: Agreement | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def goes_on(self) -> bool:
        """Whether it shows what its session's frame before showed, moved."""
        return self.compared and not self.cut

    @property
    def partial(self) -> bool:
        """Whether some of it is computed on tiles."""
        return self.keep is not None and not self.whole

    @property
    def touched(self) -> Mask | None:
        """Where it is partial: the bins [bins_h, bins_w] in which anything is computed."""
        return None if self.keep is None else np.asarray(self.keep.any(axis=0))


@dataclass(slots=True)
class Batch:
    """Frames of one size: first those that are ``compared`` with the ones before them, M of N.

    ``pixels``: uint8 [N or more, 3, H, W], what lies behind those of the frames is anything. ``luma``: uint8
    [N, h, w], their thumbnails.
    """

    size: Size
    table: SlotTable | None
    frames: list[ResidentFrame]
    pixels: Tensor
    compared: int
    luma: Tensor | None = None


class PixelBuffers:
    """Where the frames of a step lie together: the same memory in every step, so that graphs can read it."""

    def __init__(self) -> None:
        self._buffers: OrderedDict[Size, Tensor] = OrderedDict()

    def batches(self, frames: Sequence[ResidentFrame], slots: Slots) -> list[Batch]:
        """The frames in batches of one size, those that are compared first."""
        by_size: dict[Size, list[ResidentFrame]] = {}
        for frame in sorted(frames, key=lambda each: not each.compared):
            by_size.setdefault(frame.session.size, []).append(frame)
        return [
            Batch(size, slots.table(size), same, self._filled(size, same), sum(f.compared for f in same))
            for size, same in by_size.items()
        ]

    def _filled(self, size: Size, frames: list[ResidentFrame]) -> Tensor:
        buffer, rows = self._buffers.pop(size, None), padded(len(frames))
        if buffer is None or len(buffer) < rows:
            buffer = torch.zeros((rows, 3, *size), dtype=torch.uint8, device=frames[0].pixels.device)
        self._buffers[size] = buffer
        if len(self._buffers) > _SIZES:
            self._buffers.popitem(last=False)
        torch.stack([frame.pixels for frame in frames], out=buffer[: len(frames)])
        return buffer


def padded(count: int) -> int:
    """The size of batch that so many frames are looked at in: few sizes, so that they can be captured."""
    step = 1 << max(0, count.bit_length() - 2)
    return -(-count // step) * step
