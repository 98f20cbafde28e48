"""Small networks that use what large ones use, in all the ways that are awkward to run on tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5
MEAN, STD = (0.45, 0.40, 0.50), (0.25, 0.30, 0.20)


class Toy(nn.Module):
    """float [N, 3, H, W] -> logits [N, classes, H, W] for H and W that are multiples of its stride."""

    mean, std = MEAN, STD


class Basic(nn.Module):
    """Two convolutions, a skip and an activation; ``options`` are those of the convolutions."""

    def __init__(self, channels: int, activation: nn.Module, **options) -> None:
        super().__init__()
        options = {"kernel_size": 3, "padding": 1} | options
        self.conv1 = nn.Conv2d(channels, channels, **options, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, **options)
        self.bn2 = nn.BatchNorm2d(channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.bn1(self.conv1(x)))
        return self.activation(self.bn2(self.conv2(y)) + x)


class Projected(nn.Module):
    """A block that halves the resolution, the way of ResNet-D: its skip is an average, then a 1x1."""

    def __init__(self, channels: int, out_channels: int, average: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.skip = nn.Sequential(
            average, nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += self.skip(x)
        return F.relu(y)


class InvertedBottleneck(nn.Module):
    """1x1, depthwise, 1x1; no activation behind the sum."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=dilation, dilation=dilation, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Dilated(Toy):
    """DeepLab's way: a stem without pooling, dilation instead of stride, an image-wide average at the end."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.down = nn.Sequential(
            nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            Basic(12, nn.ReLU(inplace=True)),
            Basic(12, nn.ReLU(), padding=2, dilation=2),
            InvertedBottleneck(12, dilation=4),
            Basic(12, nn.ReLU(), groups=4),
        )
        self.rates = nn.ModuleList(nn.Conv2d(12, 6, 3, padding=rate, dilation=rate) for rate in (1, 3, 5))
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 6, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        x = self.blocks(self.down(self.stem(x)))
        image = F.interpolate(self.image(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = self.head(torch.cat([*[rate(x) for rate in self.rates], image], dim=1))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Borders(Toy):
    """Every kind of padding, windows of every shape; nearest neighbours on the way up."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 8, 2, stride=2)
        self.reflected = Basic(8, nn.PReLU(8), padding=2, dilation=2, padding_mode="reflect")
        self.replicated = Basic(8, nn.PReLU(), kernel_size=(1, 3), padding=(0, 1), padding_mode="replicate")
        self.circular = Basic(
            8, nn.LeakyReLU(0.2), kernel_size=(3, 1), padding=(1, 0), padding_mode="circular"
        )
        self.same = Basic(8, nn.ELU(), kernel_size=(4, 2), padding="same")
        self.mixed = Basic(8, nn.GELU(), kernel_size=(5, 3), padding="same", dilation=(1, 2), groups=2)
        self.up = nn.Upsample(scale_factor=2)
        self.tail = nn.Conv2d(8, CLASSES, (1, 5), padding=(0, 2), padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(torch.relu(self.norm(self.stem(x))))
        x = self.circular(self.replicated(self.reflected(x)))
        x = self.mixed(self.same(x))
        return F.interpolate(self.tail(self.up(x)), scale_factor=2, mode="nearest")


class Pooled(Toy):
    """Pooling with everything that it can be told; projected skips; nothing learned on the way up."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.wide = Projected(8, 12, nn.AvgPool2d(2, 2))
        self.narrow = Projected(12, 12, nn.AvgPool2d(3, 2, padding=1, count_include_pad=False))
        self.block = Basic(12, nn.ReLU())
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.stem(x)))
        x = self.narrow(self.wide(x))
        x = F.max_pool2d(x, (5, 3), stride=1, padding=(2, 1)) - x
        x = F.avg_pool2d(self.block(x), 3, 1, 1)
        x = F.avg_pool2d(x, (3, 1), 1, (1, 0), False, False)
        return F.interpolate(self.head(x), scale_factor=8, mode="bilinear", align_corners=False)


class PreActivated(Toy):
    """Batch norm and activation in front of the convolutions, and a learned scale on each branch."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3)
        self.blocks = nn.ModuleList(_PreBlock(8, 8, 1) for _ in range(2))
        self.project = _PreBlock(8, 16, 2)
        self.last = _PreBlock(16, 16, 1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Conv2d(16, CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        frame = x
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        early = x
        x = F.hardswish(self.norm(self.last(self.project(x))))
        x = self.head(x)
        x = F.interpolate(x, size=early.shape[-2:], mode="bilinear", align_corners=True) + early[:, :CLASSES]
        return F.interpolate(x, size=(frame.shape[2], frame.shape[3]), mode="bilinear")


class _PreBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        middle = out_channels // 2
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(c) for c in (channels, middle, middle))
        self.conv1 = nn.Conv2d(channels, middle, 1, bias=False)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(middle, out_channels, 1)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, out_channels).view(-1, 1, 1))
        self.skip = nn.Conv2d(channels, out_channels, 1, stride=stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm1(x))
        skip = x if self.skip is None else self.skip(y)
        y = self.conv1(y)
        y = self.conv2(F.relu6(self.norm2(y)))
        y = self.conv3(F.leaky_relu(self.norm3(y), 0.1))
        return skip + self.scale * y


class Excited(Toy):
    """Squeeze and excitation inside the blocks; transposed convolutions of three shapes on the way up."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.down1 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.block1 = _Excitation(8, linear=True)
        self.down2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.block2 = _Excitation(8, linear=False)
        self.up1 = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.up2 = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=2, bias=False)
        self.up3 = nn.ConvTranspose2d(8, CLASSES, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        x = self.block1(self.down1(x))
        x = self.block2(self.down2(x))
        x = F.relu(self.norm(self.up1(x)))
        return self.up3(torch.sigmoid(self.up2(x)))


class _Excitation(nn.Module):
    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        layer = nn.Linear if linear else lambda i, o: nn.Conv2d(i, o, 1)
        self.squeeze, self.excite = layer(channels, channels // 2), layer(channels // 2, channels)
        self.linear = linear
        self.register_buffer("gain", torch.full((1, channels), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.linear:
            pooled = F.adaptive_avg_pool2d(y, 1)
            vector = self.squeeze(pooled.view(y.size(0), pooled.shape[1]))
            scale = torch.sigmoid(self.excite(F.relu(vector)) * self.gain)[:, :, None, None]
        else:
            scale = F.hardsigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return F.relu(x + y * scale)


class Ladder(Toy):
    """A U-Net of residual blocks: skips that are concatenated, skips that are added, nested ones."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(True))
        self.encoder = nn.ModuleList(Basic(c, nn.ReLU(inplace=True)) for c in (6, 8, 10, 12))
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 2, stride=2) for i, o in ((6, 8), (8, 10), (10, 12)))
        self.pyramid = nn.ModuleList(nn.Conv2d(12, 12, 1) for _ in range(3))
        self.up4 = nn.Conv2d(12, 10, 1)
        self.up2 = nn.Conv2d(20, 8, 3, padding=1)
        self.up1 = nn.Conv2d(8, 6, 1)
        self.blend = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        maps = [self.encoder[0](x)]
        for down, block in zip(self.downs, self.encoder[1:], strict=True):
            maps.append(block(down(maps[-1])))
        full, half, quarter, x = maps
        size = x.shape[-2:]
        for grid, conv in zip((1, 2, 3), self.pyramid, strict=True):
            pooled = (
                F.adaptive_max_pool2d(maps[3], grid) if grid == 2 else F.adaptive_avg_pool2d(maps[3], grid)
            )
            x = x + F.interpolate(conv(pooled), size, mode="bilinear", align_corners=False)
        x = self.up4(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        x = F.relu(self.up2(torch.cat((x, quarter), 1)))
        x = half + F.interpolate(x, size=half.shape[2:], mode="bilinear", align_corners=False)
        x = self.up1(nn.functional.interpolate(x, scale_factor=2.0))
        x = F.relu(self.blend(x + full))
        return self.head(torch.cat([x, full], dim=1))


class Split(Toy):
    """Maps that are cut along their channels, joined, mixed and used twice."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, padding_mode="zeros")
        self.left = Basic(4, nn.Hardtanh())
        self.right = nn.Sequential(
            nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        )
        self.mix = nn.Conv2d(20, 8, 1)
        self.gate = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.block = Basic(8, nn.Hardswish())
        self.head = nn.ConvTranspose2d(8, CLASSES, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = (2.0 - x) * 0.5 / 1.5
        left, right = x[:, :4], x[:, 4:]
        left = self.left(left)
        right = self.right(right) - left
        x = self.mix(torch.cat([left, right, left, x], 1))
        x = x * self.gate(x).sigmoid() + x * x
        x = self.block(x).clamp(-3, 3)
        return self.head(x.add(x))


class Shared(Toy):
    """One convolution used twice, with a batch norm each; activations that overwrite what others read."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.relu(x)  # and so is x from here on
        y = self.norm2(self.conv(self.relu(self.norm1(self.conv(y)))))
        x = x + y
        y = self.conv3(F.relu(x, inplace=True))
        y += x
        y.relu_()
        z = self.point(y)
        z.add_(y)
        return F.interpolate(self.head(z) + self.head(y), scale_factor=2)


@dataclass(frozen=True)
class Expectation:
    """What lowering should make of a toy. ``units``: for every unit, whether its skip is projected."""

    build: Callable[[], nn.Module]
    units: tuple[bool, ...]
    strides: tuple[int, ...]  # of the kept maps


TOYS = {
    "dilated": Expectation(Dilated, (False,) * 4, (4,)),
    "borders": Expectation(Borders, (False,) * 5, (2, 4)),
    "pooled": Expectation(Pooled, (True, True, False), (2, 4, 8)),
    "pre-activated": Expectation(PreActivated, (False, False, True, False), (2, 4)),
    "excited": Expectation(Excited, (False, False), (2, 4, 8)),
    "ladder": Expectation(Ladder, (False,) * 4, (1, 2, 4, 8)),
    "split": Expectation(Split, (False, True, False), (2,)),
    "shared": Expectation(Shared, (False, False, False), (2,)),
}


def toy(name: str, seed: int = 0) -> nn.Module:
    """One of ``TOYS`` with weights and batch norms that do something."""
    torch.manual_seed(seed)
    network = enliven(TOYS[name].build())
    _balance(network)
    return network


def enliven(network: nn.Module) -> nn.Module:
    """Weights that let what is seen through to the logits."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.7, 1.3)
                nn.init.normal_(module.bias, 0.0, 0.2)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.3, 0.3)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _balance(network: nn.Module) -> None:
    """Scale and shift the last layer so that all classes occur and no softmax saturates."""
    *_, last = (m for m in network.modules() if getattr(m, "out_channels", None) == CLASSES)
    x = torch.randn(1, 3, 64, 64)
    spread = network(x).std()
    last.weight /= spread
    last.bias /= spread
    before = network(x).mean((0, 2, 3))
    last.bias += 1.0
    # a layer that is used twice counts twice
    last.bias -= 1.0 + before / (network(x).mean((0, 2, 3)) - before)
