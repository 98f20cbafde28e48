"""What a step computes of a batch, still on the device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tilestream.engine.resident.frames import ResidentFrame


@dataclass(frozen=True, slots=True)
class Answers:
    """Of a batch's N frames, in the order of ``frames``: partial ones, whole ones, and those moved only.

    ``labels``: uint8 [N, H, W]; ``confidence`` likewise, where any session asks for it. ``changed``: int32
    [K, bins_h, bins_w], of the first K frames, which are partial, or whole and kept: how many pixels of each
    bin have another label than the one that was moved there.
    """

    frames: list[ResidentFrame]
    labels: Tensor
    confidence: Tensor | None
    changed: Tensor
