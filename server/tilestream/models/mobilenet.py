"""MobileNetV2 as an encoder, with torchvision's parameter names, so that its checkpoints load as they are.

Architecture: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381.
"""

from __future__ import annotations

from torch import Tensor, nn

# Of each group of blocks: expansion, channels, blocks, stride of the first one (table 2 of the paper).
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32


class ConvBNReLU6(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Widen by 1x1, 3x3 for each channel by itself, narrow by 1x1; a skip where size and channels stay."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.has_skip = stride == 1 and in_channels == channels
        widen = [ConvBNReLU6(in_channels, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *widen,
            ConvBNReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return x + result if self.has_skip else result


class MobileNetV2Encoder(nn.Module):
    """MobileNetV2 without its last 1x1 and its classifier.

    ``forward``: float [N, 3, H, W] -> the last map at each of the strides 4, 8, 16, 32.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvBNReLU6(3, STEM_CHANNELS, 3, stride=2)]
        channels, stride = STEM_CHANNELS, 2
        last: dict[int, tuple[int, int]] = {}  # stride -> index and channels of the last layer at it
        for expansion, width, depth, first_stride in GROUPS:
            for index in range(depth):
                step = first_stride if index == 0 else 1
                layers.append(InvertedResidual(channels, width, step, expansion))
                channels, stride = width, stride * step
                last[stride] = (len(layers) - 1, channels)
        self.features = nn.Sequential(*layers)
        self.ends = tuple(last[stride][0] for stride in (4, 8, 16, 32))
        self.out_channels = [last[stride][1] for stride in (4, 8, 16, 32)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.ends:
                maps.append(x)
        x4, x8, x16, x32 = maps
        return x4, x8, x16, x32
