"""Score fusion for a batch on the device: see ``memory.scores``, which says what is reckoned and why."""

from __future__ import annotations

import torch
from torch import Tensor

from tilestream.engine.memory.scores import FUSED_DIFFERENCE
from tilestream.engine.resident.sampling import blurred, lands_inside, resampled, sample


def levelled(scores: Tensor) -> Tensor:
    """Scores float32 [N, C, h, w] with the best class of every pixel at 0."""
    scores = scores.float()
    return scores - scores.amax(dim=1, keepdim=True)


def smoothed(
    scores: Tensor,
    earlier: Tensor,
    weights: Tensor,
    luma: Tensor,
    earlier_luma: Tensor,
    displacement: Tensor,
    size: tuple[int, int],
    scales: tuple[int, int],
) -> Tensor:
    """Scores [N, C, h, w] of whole frames ``size`` (H, W) large, with those ``earlier`` of the same places.

    ``weights``: float32 [N], 0 where there are none earlier. ``luma``, ``earlier_luma``: uint8 thumbnails
    [N, h', w']. ``displacement``: float32 [N, 2, h', w'] from these frames to the earlier ones. ``scales``:
    image pixels per pixel of the thumbnails and of the scores.
    """
    rows, columns = scores.shape[2:]
    scale, stride = scales
    shift = resampled(displacement, scale, stride, rows, columns) * (scale / stride)
    now, moved = levelled(scores), sample(earlier.float(), shift)
    seen = sample(earlier_luma[:, None].float(), displacement)[:, 0].round()
    left = blurred((luma.float() - seen).abs()).round()
    unlike = resampled(left[:, None], scale, stride, rows, columns)[:, 0]
    fits = (1.0 - unlike / FUSED_DIFFERENCE).clamp(0, 1)
    inside = lands_inside(shift, 0.5, ((size[0] - 1) / stride, (size[1] - 1) / stride))
    share = weights[:, None, None] * torch.where(inside, fits, 0.0)
    share = share[:, None]
    fused = torch.where(share > 0, torch.lerp(now, moved, share), now)  # 0 times what is no number is none
    return fused.to(scores.dtype)
