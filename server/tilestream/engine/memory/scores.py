"""Score fusion: the class scores of a whole frame, smoothed by those of its session's whole frame before.

A network that sees every frame by itself changes its mind from one to the next where it is not sure. What it
thought of the same place a moment ago is worth something then, as long as the motion tells where that place
was and it still looks the same:

    fused(p) = s(p) + a(p) (e(p + g(p)) - s(p)),    a = weight * max(0, 1 - r / FUSED_DIFFERENCE),

s and e being the scores of this whole frame and the fused ones of that before, the best class of each pixel
at 0; g the motion between the two, and r what it leaves of the luma, mean over 3 x 3 pixels. Where p + g(p)
lies outside of the image, a = 0. While nothing moves at all, e is the mean of n whole frames of the same
scene, and the weight n / (n + 1) makes it that of n + 1: noise, which changes some labels from frame to
frame, averages out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.motion.warp import displace, grid, resampled
from tilestream.messages import Float32Array

FUSED_DIFFERENCE = 16.0
"""Luma steps from which on earlier scores count for nothing. With 24 or more, fast drives lose by fusion."""

MOST_AVERAGED = 8
"""Whole frames of an unmoved scene that scores are the mean of, at most; from then on they slowly forget."""


@dataclass(frozen=True, slots=True)
class SmoothedScores:
    """What is kept of a whole frame. ``scores``: [C, h, w] at ``stride`` image pixels, on the device.

    ``luma``: uint8 thumbnail, ``scale`` image pixels per pixel.
    """

    scores: Tensor
    luma: Tensor
    scale: int
    stride: int

    @classmethod
    def of(cls, scores: Tensor, luma: Tensor, scale: int, stride: int) -> SmoothedScores:
        """Scores [C, h, w] as the network gives them, or as they were smoothed."""
        return cls(_levelled(scores).to(scores.dtype), luma, scale, stride)

    def smooth(
        self,
        scores: Tensor,
        luma: Tensor,
        displacement: Tensor | None,
        size: tuple[int, int],
        weight: float,
    ) -> Tensor:
        """Scores [C, h, w] like those given, which are those of a frame ``size`` (height, width) large.

        ``displacement``: float32 [h', w', 2] (x, y) from that frame to this one's, in pixels of the thumbnail
        ``luma``; None if nothing has moved. ``weight``: 0..1, see :func:`weight_of`.
        """
        rows, columns = scores.shape[1:]
        now, moved = _levelled(scores), self.scores.float()
        sources, seen = grid(rows, columns), self.luma.numpy()
        if displacement is not None:
            shift = resampled(displacement[None], self.scale, self.stride, rows, columns)
            sources = sources + shift.numpy()[0] * np.float32(self.scale / self.stride)
            moved = _sampled(moved, sources)
            seen = np.asarray(displace(seen, displacement.numpy()), dtype=np.uint8)
        left = torch.from_numpy(cv2.blur(cv2.absdiff(luma.numpy(), seen), (3, 3))).float()
        unlike = resampled(left[None], self.scale, self.stride, rows, columns).numpy()[0]
        fits = np.clip(1.0 - unlike / FUSED_DIFFERENCE, 0, 1)
        last = ((size[1] - 1) / self.stride, (size[0] - 1) / self.stride)
        inside = cv2.inRange(sources, (-0.5, -0.5), last) > 0
        share = upload((np.float32(weight) * fits * inside).astype(np.float32), scores.device)
        return now + share * (moved - now)


def weight_of(averaged: int, weight: float) -> float:
    """What the mean of ``averaged`` frames of one scene weighs beside one more, if above ``weight``."""
    return max(weight, averaged / (averaged + 1))


def _levelled(scores: Tensor) -> Tensor:
    """Scores float32 [C, h, w] with the best class of every pixel at 0."""
    scores = scores.float()
    return scores - scores.amax(dim=0)  # a sixth of the time that max takes, which also tells where


def _sampled(scores: Tensor, sources: Float32Array) -> Tensor:
    """Scores [C, h, w] at positions [h, w, 2] (x, y), bilinear; the border goes on beyond the image."""
    rows, columns = scores.shape[1:]
    size = np.array([columns, rows], dtype=np.float32)
    where = upload(np.asarray((2 * sources + 1) / size - 1, dtype=np.float32), scores.device)
    found = F.grid_sample(
        scores[None], where[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[0]
