"""What a learned gate looks at, for a batch on the device: see ``gates.cells``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.gates.cells import CELL
from tilestream.engine.resident.motion import BatchMotion
from tilestream.engine.resident.sampling import continued, resampled, sample

LABEL_STEP = 4
"""Pixels between the labels that are looked at, in both directions."""


def cell_features(
    few: Tensor, classes: int, fine: Tensor, step: int, motion: BatchMotion, scale: int, luma: Tensor
) -> Tensor:
    """Float32 [N, channels, rows, columns], as ``gates.cells.cell_features``.

    ``few``: uint8 [N, h, w], every :data:`LABEL_STEP`-th label of the answers before, from half a step on.
    ``fine``: float32 [N, 5, h', w'] of ``step`` image pixels; ``luma``: thumbnails uint8 [N, h'', w''].
    """
    rows, columns = -(-fine.shape[2] * step // CELL), -(-fine.shape[3] * step // CELL)
    flow = resampled(motion.flow, scale, CELL, rows, columns) * (scale / CELL)
    known = sample(_label_statistics(few, classes, rows, columns), flow)
    side = CELL // step
    wide = continued(fine, rows * side, columns * side)
    distortion, current, age, speed, occluded = F.avg_pool2d(wide, side).unbind(dim=1)
    peak = F.max_pool2d(wide[:, :1], side)[:, 0]
    side = CELL // scale
    spread = _deviation(motion.flow * scale, side, rows, columns)
    texture = _deviation(luma[:, None].float(), side, rows, columns)
    row = torch.linspace(0, 1, rows, device=luma.device)[:, None].expand_as(age)
    channels = [distortion / 16, current / 16, age / 8, speed / 16, occluded, peak / 16]
    channels += [spread / 4, texture / 32, row]
    return torch.cat((torch.stack(channels, dim=1), known), dim=1)


def _label_statistics(few: Tensor, classes: int, rows: int, columns: int) -> Tensor:
    """Float32 [N, 1 + classes, rows, columns]: the share of pixels at a class border, and of every class."""
    side = CELL // LABEL_STEP
    few = continued(few[:, None].float(), rows * side, columns * side)
    left, above = F.pad(few, (1, 0, 0, 0), mode="replicate"), F.pad(few, (0, 0, 1, 0), mode="replicate")
    borders = (few != left[..., :-1]) | (few != above[:, :, :-1])
    one_hot = few == torch.arange(classes, device=few.device).view(1, -1, 1, 1)
    return F.avg_pool2d(torch.cat((borders, one_hot), dim=1).float(), side)


def _deviation(maps: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """Root of the summed variances of the channels of [N, C, h, w] within each cell: [N, rows, columns]."""
    wide = continued(maps, rows * side, columns * side)
    mean, square = F.avg_pool2d(wide, side), F.avg_pool2d(wide * wide, side)
    return (square - mean * mean).clamp(min=0).sum(dim=1).sqrt()
