"""DDRNet-23-slim: two branches of different resolution that exchange features.

Architecture: Hong et al., "Deep Dual-resolution Networks for Real-time and Accurate Semantic
Segmentation of Road Scenes", arXiv 2101.06085. Parameters carry the names of the authors' public
checkpoints, so that those load as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream.models.layers import IMAGENET_MEAN, IMAGENET_STD, upsample

BN_MOMENTUM = 0.1


def _bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=BN_MOMENTUM)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip; the last one of a stage leaves its ReLU to whoever reads it."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, final_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = _bn(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = _bn(channels)
        self.downsample = _projection(in_channels, channels, stride)
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + skip
        return F.relu(x) if self.final_relu else x


class Bottleneck(nn.Module):
    """1x1 - 3x3 - 1x1 with a skip and no final ReLU."""

    expansion = 2

    def __init__(self, in_channels: int, channels: int, stride: int = 1, final_relu: bool = False) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = _bn(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = _bn(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = _bn(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x)) + skip
        return F.relu(x) if self.final_relu else x


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), _bn(out_channels)
    )


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, channels: int, depth: int, stride: int = 1
) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for index in range(depth):
        blocks.append(block(in_channels, channels, stride, final_relu=index < depth - 1))
        in_channels, stride = channels * block.expansion, 1
    return nn.Sequential(*blocks)


def _bn_relu_conv(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return [_bn(in_channels), nn.ReLU(inplace=True), conv]


class DAPPM(nn.Module):
    """Deep aggregation pyramid pooling: ever coarser averages, each refined with the one before."""

    def __init__(self, in_channels: int, branch: int, out_channels: int) -> None:
        super().__init__()
        self.scale1 = nn.Sequential(nn.AvgPool2d(5, 2, 2), *_bn_relu_conv(in_channels, branch, 1))
        self.scale2 = nn.Sequential(nn.AvgPool2d(9, 4, 4), *_bn_relu_conv(in_channels, branch, 1))
        self.scale3 = nn.Sequential(nn.AvgPool2d(17, 8, 8), *_bn_relu_conv(in_channels, branch, 1))
        self.scale4 = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), *_bn_relu_conv(in_channels, branch, 1))
        self.scale0 = nn.Sequential(*_bn_relu_conv(in_channels, branch, 1))
        self.process1 = nn.Sequential(*_bn_relu_conv(branch, branch, 3))
        self.process2 = nn.Sequential(*_bn_relu_conv(branch, branch, 3))
        self.process3 = nn.Sequential(*_bn_relu_conv(branch, branch, 3))
        self.process4 = nn.Sequential(*_bn_relu_conv(branch, branch, 3))
        self.compression = nn.Sequential(*_bn_relu_conv(branch * 5, out_channels, 1))
        self.shortcut = nn.Sequential(*_bn_relu_conv(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        maps = [self.scale0(x)]
        scales = (self.scale1, self.scale2, self.scale3, self.scale4)
        processes = (self.process1, self.process2, self.process3, self.process4)
        for scale, process in zip(scales, processes, strict=True):
            pooled = F.interpolate(scale(x), size=size, mode="bilinear", align_corners=False)
            maps.append(process(pooled + maps[-1]))
        result: Tensor = self.compression(torch.cat(maps, dim=1)) + self.shortcut(x)
        return result


class SegmentationHead(nn.Module):
    """BN-ReLU-3x3, BN-ReLU-1x1."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.bn1 = _bn(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = _bn(channels)
        self.conv2 = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return result


class DDRNet(nn.Module):
    """float [N, 3, H, W] (normalised RGB; H and W multiples of 64) -> logits [N, classes, H, W]."""

    stride = 64
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(self, num_classes: int, planes: int = 32, spp: int = 128, head: int = 64) -> None:
        super().__init__()
        p, high = planes, planes * 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, p, 3, stride=2, padding=1),
            _bn(p),
            nn.ReLU(inplace=True),
            nn.Conv2d(p, p, 3, stride=2, padding=1),
            _bn(p),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _stage(BasicBlock, p, p, 2)
        self.layer2 = _stage(BasicBlock, p, p * 2, 2, stride=2)
        self.layer3 = _stage(BasicBlock, p * 2, p * 4, 2, stride=2)
        self.layer4 = _stage(BasicBlock, p * 4, p * 8, 2, stride=2)
        self.compression3 = nn.Sequential(nn.Conv2d(p * 4, high, 1, bias=False), _bn(high))
        self.compression4 = nn.Sequential(nn.Conv2d(p * 8, high, 1, bias=False), _bn(high))
        self.down3 = nn.Sequential(nn.Conv2d(high, p * 4, 3, stride=2, padding=1, bias=False), _bn(p * 4))
        self.down4 = nn.Sequential(
            nn.Conv2d(high, p * 4, 3, stride=2, padding=1, bias=False),
            _bn(p * 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(p * 4, p * 8, 3, stride=2, padding=1, bias=False),
            _bn(p * 8),
        )
        self.layer3_ = _stage(BasicBlock, p * 2, high, 2)
        self.layer4_ = _stage(BasicBlock, high, high, 2)
        self.layer5_ = _stage(Bottleneck, high, high, 1)
        self.layer5 = _stage(Bottleneck, p * 8, p * 8, 1, stride=2)
        self.spp = DAPPM(p * 16, spp, p * 4)
        self.seghead_extra = SegmentationHead(high, head, num_classes)
        self.final_layer = SegmentationHead(p * 4, head, num_classes)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maps at stride 8 that the auxiliary and the final head read."""
        x = self.layer1(self.conv1(x))
        shared = F.relu(self.layer2(F.relu(x)))
        low3 = self.layer3(shared)
        high = self.layer3_(shared)
        low = low3 + self.down3(F.relu(high))
        middle = high + upsample(self.compression3(F.relu(low3)), 2)
        low4 = self.layer4(F.relu(low))
        high = self.layer4_(F.relu(middle))
        low = low4 + self.down4(F.relu(high))
        high = high + upsample(self.compression4(F.relu(low4)), 4)
        context = upsample(self.spp(self.layer5(F.relu(low))), 8)
        return middle, self.layer5_(F.relu(high)) + context

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.final_layer(self.features(x)[1]), 8)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and auxiliary logits, both at stride 8, for the training losses."""
        middle, final = self.features(x)
        return self.final_layer(final), self.seghead_extra(middle)


def ddrnet23_slim(num_classes: int) -> DDRNet:
    """DDRNet-23-slim: the small and fast one."""
    return DDRNet(num_classes)
