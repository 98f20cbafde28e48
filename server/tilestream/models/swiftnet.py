"""SwiftNet: an ImageNet encoder, spatial pyramid pooling and a light ladder of lateral connections.

Architecture after Orsic et al., "In Defense of Pre-trained ImageNet Architectures for Real-time
Semantic Segmentation of Road-driving Images", arXiv 1903.08469 (single-scale variant). Ours differs
in two ways that keep every layer local to a tile: convolution-BN-ReLU order throughout, so that all
batch norms fold, and upsampling by exactly two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream.models.layers import IMAGENET_MEAN, IMAGENET_STD, ConvBNReLU, upsample
from tilestream.models.mobilenet import MobileNetV2Encoder
from tilestream.models.resnet import ResNetEncoder, resnet18


class SpatialPyramidPooling(nn.Module):
    """Global context: the map's averages over grids of 8x8, 4x4, 2x2 and 1x1 cells, put beside the map."""

    def __init__(self, in_channels: int, out_channels: int, bottleneck: int = 128, level: int = 42) -> None:
        super().__init__()
        self.grids = (8, 4, 2, 1)
        self.reduce = ConvBNReLU(in_channels, bottleneck, 1)
        self.levels = nn.ModuleList(ConvBNReLU(bottleneck, level, 1) for _ in self.grids)
        self.fuse = ConvBNReLU(bottleneck + level * len(self.grids), out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        size = x.shape[-2:]
        maps = [x]
        for grid, conv in zip(self.grids, self.levels, strict=True):
            pooled = conv(F.adaptive_avg_pool2d(x, grid))
            maps.append(F.interpolate(pooled, size=size, mode="bilinear", align_corners=False))
        result: Tensor = self.fuse(torch.cat(maps, dim=1))
        return result


class UpsampleBlend(nn.Module):
    """One rung of the decoder: upsample by two, add the projected encoder map, blend with a 3x3."""

    def __init__(self, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.lateral = ConvBNReLU(skip_channels, channels, 1)
        self.blend = ConvBNReLU(channels, channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        result: Tensor = self.blend(upsample(x, 2) + self.lateral(skip))
        return result


class SwiftNet(nn.Module):
    """float [N, 3, H, W] (normalised RGB; H and W multiples of 32) -> logits [N, classes, H, W].

    ``width``: channels of every map of the decoder.
    """

    stride = 32
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self, num_classes: int, encoder: ResNetEncoder | MobileNetV2Encoder, width: int = 128
    ) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width
        c4, c8, c16, c32 = encoder.out_channels
        self.spp = SpatialPyramidPooling(c32, width)
        self.up16 = UpsampleBlend(c16, width)
        self.up8 = UpsampleBlend(c8, width)
        self.up4 = UpsampleBlend(c4, width)
        self.head = nn.Conv2d(width, num_classes, 1)
        # Deep supervision: helps the randomly initialised deep layers along, unused at inference.
        self.auxiliary_head = nn.Conv2d(width, num_classes, 1)

    def decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder maps at strides 8 and 4."""
        x4, x8, x16, x32 = self.encoder(x)
        d16 = self.up16(self.spp(x32), x16)
        d8 = self.up8(d16, x8)
        return d8, self.up4(d8, x4)

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.head(self.decode(x)[1]), 4)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at stride 4 and auxiliary logits at stride 8, for the training losses."""
        d8, d4 = self.decode(x)
        return self.head(d4), self.auxiliary_head(d8)


def swiftnet_resnet18(num_classes: int, width: int = 128) -> SwiftNet:
    """The default model: SwiftNet over ResNet-18."""
    return SwiftNet(num_classes, resnet18(), width)


def swiftnet_mobilenetv2(num_classes: int, width: int = 96) -> SwiftNet:
    """The light model: SwiftNet over MobileNetV2, with a narrower decoder."""
    return SwiftNet(num_classes, MobileNetV2Encoder(), width)
