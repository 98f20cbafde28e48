"""Pieces that several networks share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Channel mean and spread of RGB in 0..1 that networks started from ImageNet expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ConvBNReLU(nn.Sequential):
    """Convolution, batch norm, ReLU; keeps the map's size at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear upsampling by a whole factor (half-pixel centres), which stays local to a tile."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
