"""What does not move: there, old labels are as good as new ones."""

from __future__ import annotations

import torch
from torch import Tensor

from tilestream.engine.gates.gate import GateInput
from tilestream.engine.motion.distortion import BinSignals

CHECK_AFTER = 64.0
"""Frames, four seconds at 15 Hz, after which even a quiet scene is computed, as far as the credit goes: for
1.6 % of the work, a gate that has gone blind is noticed."""

AVERAGE_AFTER = 8.0
"""Frames after which a scene in which nothing moves is computed a second time, where labels are averaged; a
third time after twice as many, and so on up to :data:`CHECK_AFTER`. One says what noise makes it say."""

STILL_MOTION = 1.0
"""Image pixels, mean of a bin. Noise makes the motion of a bin without texture jump by as much."""

STILL_DISTORTION = 1.5
"""Luma steps since the bin was computed: what strong noise leaves after 20 frames of a still scene. Driving
adds 1.2 to 3 in every frame of 15 Hz, mean over the bins."""


def still(signals: BinSignals) -> Tensor:
    """Bins [N, bins_h, bins_w] in which nothing moves or has changed.

    New labels would differ, as noise alone makes a network change its mind about 0.4 to 1.6 % of the pixels.
    """
    return (signals.motion < STILL_MOTION) & (signals.distortion < STILL_DISTORTION)


def unchecked(frames: GateInput) -> Tensor:
    """Bool [N]: what was computed so long ago that it is looked at again, even where nothing happens."""
    average_after = AVERAGE_AFTER * 2.0 ** (frames.averaged - 1)
    after = torch.where(frames.averaged > 0, average_after.clamp(max=CHECK_AFTER), CHECK_AFTER)
    return frames.signals.age.mean(dim=(1, 2)) > after
