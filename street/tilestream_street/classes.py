"""The eleven CamVid classes, their indices and their display colours."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES: Final[tuple[str, ...]] = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip

SKY: Final = 0
BUILDING: Final = 1
POLE: Final = 2
ROAD: Final = 3
PAVEMENT: Final = 4
TREE: Final = 5
SIGN: Final = 6
FENCE: Final = 7
CAR: Final = 8
PEDESTRIAN: Final = 9
BICYCLIST: Final = 10
IGNORE_LABEL: Final = 11

PALETTE: Final[NDArray[np.uint8]] = np.array(
    [
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""uint8 [11, 3], RGB."""
PALETTE.setflags(write=False)
