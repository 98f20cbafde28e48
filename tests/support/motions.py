"""The same motion as the host has it and as the resident engine does."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.motion.flow import Motion
from tilestream.engine.resident.motion import BatchMotion


def smooth(count: int, channels: int, height: int, width: int, reach: float, seed: int = 0) -> Tensor:
    """Float32 [N, C, h, w] within ``reach`` of 0, alike in neighbouring pixels."""
    values = np.random.default_rng(seed).uniform(-reach, reach, (count, channels, 3, 4))
    coarse = torch.from_numpy(values.astype(np.float32))
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


def motions(
    shape: tuple[int, int], scale: int, count: int = 3, reach: float = 3.0, seed: int = 0
) -> tuple[Motion, BatchMotion]:
    """Of frames with thumbnails of ``shape``; the last one is still."""
    rng = np.random.default_rng(seed)
    flow = smooth(count, 2, *shape, reach, seed)
    residual = torch.from_numpy(rng.integers(0, 20, (count, *shape), dtype=np.uint8))
    occluded = torch.from_numpy(rng.random((count, *shape)) < 0.02)
    still = torch.arange(count) == count - 1
    flow[still], occluded[still] = 0, False
    host = Motion(flow.permute(0, 2, 3, 1).contiguous(), occluded, scale, residual, still)
    return host, BatchMotion(flow, occluded, residual.float(), still)
