"""What moved between frames and those before them, for a batch on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.motion.estimators import OCCLUDED_DIFFERENCE
from tilestream.engine.motion.luma import STILL_DIFFERENCE
from tilestream.engine.resident.operations import Operations
from tilestream.engine.resident.sampling import blurred, lands_inside, sample
from tilestream.engine.resident.search import FOR_LABELS, Search

_STILL_SIDE = 8  # thumbnail pixels on a side of the blocks whose means tell stillness from motion


@dataclass(frozen=True, slots=True)
class BatchMotion:
    """As ``motion.flow.Motion``, but channels first: ``flow`` float32 [N, 2, h, w] (x, y).

    ``occluded``: bool [N, h, w]. ``residual``: float32 [N, h, w], luma steps. ``still``: bool [N].
    """

    flow: Tensor
    occluded: Tensor
    residual: Tensor
    still: Tensor


def estimate(
    ops: Operations, previous: Tensor, current: Tensor, expected: Tensor, how: Search = FOR_LABELS
) -> BatchMotion:
    """Motion from thumbnails uint8 [N, h, w]; ``expected``: float32 [N, 2, h, w], where the search begins."""
    still = show_the_same(previous, current)
    before, now = previous.float(), current.float()
    source = before if how.means else _exposed_as(now, before)
    found = ops.flow(source, now, expected, how)
    flow = torch.where(still[:, None, None, None], 0.0, found)
    residual = (now - sample(before[:, None], flow)[:, 0].round()).abs()
    height, width = now.shape[1:]
    differs = blurred(residual).round() > OCCLUDED_DIFFERENCE
    hidden = differs | lands_inside(flow, 0.5, (height - 0.5, width - 0.5)).logical_not()
    return BatchMotion(flow, hidden & still.logical_not()[:, None, None], residual, still)


def show_the_same(one: Tensor, other: Tensor) -> Tensor:
    """Bool [N]: whether thumbnails uint8 [N, h, w] differ by no more than noise anywhere."""
    difference = (one.float() - other.float()).abs()
    rows, columns = (max(1, side // _STILL_SIDE) for side in difference.shape[1:])
    means = F.adaptive_avg_pool2d(difference[:, None], (rows, columns))
    quiet = difference.mean(dim=(1, 2)) <= STILL_DIFFERENCE
    return quiet & (means.amax(dim=(1, 2, 3)) <= STILL_DIFFERENCE)


def _exposed_as(current: Tensor, previous: Tensor) -> Tensor:
    """``previous`` with the change of exposure since then: the median difference, of every 16th pixel."""
    differences = (current[:, ::4, ::4] - previous[:, ::4, ::4]).flatten(1).sort(dim=1).values
    middle = differences.shape[1] // 2
    step = (differences[:, middle] + differences[:, (differences.shape[1] - 1) // 2]) / 2
    step = torch.where(step.abs() < 1.0, 0.0, step)[:, None, None]
    return (previous + step).round().clamp(0, 255)
