"""What a partial pass is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tilestream.engine.arrays import Mask
from tilestream.engine.resident.partial.pages import PageNumbers
from tilestream.engine.resident.partial.tile_sets import DeviceTiles

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ComputedTiles:
    """What a partial pass computed. ``tiles``: of which frame (position in the step), slot, row, column.

    ``labels`` and, if asked for, ``confidence``: uint8 [n, bin, bin], on the device.
    """

    tiles: DeviceTiles
    labels: Tensor
    confidence: Tensor | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Frames that a partial pass will compute, and the pages that they have for it.

    ``refused``: positions, in what was asked for, of frames for which there is no room: they have to be
    computed in full. Nothing is computed of them in this plan.
    """

    slots: Slots
    keep: Mask
    pages: PageNumbers
    refused: list[int]
