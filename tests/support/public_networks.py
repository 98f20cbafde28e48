"""The public ResNets, MobileNetV2 and DDRNet-23-slim, written down from their definitions.

Tables of names and shapes, and forward passes as plain calls of torch.nn.functional by name: nothing here
goes through the modules under test.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

# layer, blocks, channels in, channels inside, channels out, stride: torchvision's ResNets.
RESNETS = {
    "resnet18": (
        "basic",
        [("layer1", 2, 64, 64, 64, 1), ("layer2", 2, 64, 128, 128, 2),
         ("layer3", 2, 128, 256, 256, 2), ("layer4", 2, 256, 512, 512, 2)],
        122, 11_689_512,
    ),
    "resnet34": (
        "basic",
        [("layer1", 3, 64, 64, 64, 1), ("layer2", 4, 64, 128, 128, 2),
         ("layer3", 6, 128, 256, 256, 2), ("layer4", 3, 256, 512, 512, 2)],
        218, 21_797_672,
    ),
    "resnet50": (
        "bottleneck",
        [("layer1", 3, 64, 64, 256, 1), ("layer2", 4, 256, 128, 512, 2),
         ("layer3", 6, 512, 256, 1024, 2), ("layer4", 3, 1024, 512, 2048, 2)],
        320, 25_557_032,
    ),
}  # fmt: skip
# Layer, channels in, inside, out, stride: the blocks of torchvision's MobileNetV2.
MOBILENETV2 = [
    (1, 32, 32, 16, 1),
    (2, 16, 96, 24, 2), (3, 24, 144, 24, 1),
    (4, 24, 144, 32, 2), (5, 32, 192, 32, 1), (6, 32, 192, 32, 1),
    (7, 32, 192, 64, 2), (8, 64, 384, 64, 1), (9, 64, 384, 64, 1), (10, 64, 384, 64, 1),
    (11, 64, 384, 96, 1), (12, 96, 576, 96, 1), (13, 96, 576, 96, 1),
    (14, 96, 576, 160, 2), (15, 160, 960, 160, 1), (16, 160, 960, 160, 1), (17, 160, 960, 320, 1),
]  # fmt: skip
# The authors' DDRNet-23-slim for 19 classes: "conv NAME OUT IN KERNEL" ("conv+" with a bias), "bn NAME OUT".
DDRNET23_SLIM = """
conv+ conv1.0 32 3 3            bn conv1.1 32                   conv+ conv1.3 32 32 3           bn conv1.4 32
conv layer1.0.conv1 32 32 3     bn layer1.0.bn1 32              conv layer1.0.conv2 32 32 3     bn layer1.0.bn2 32
conv layer1.1.conv1 32 32 3     bn layer1.1.bn1 32              conv layer1.1.conv2 32 32 3     bn layer1.1.bn2 32
conv layer2.0.conv1 64 32 3     bn layer2.0.bn1 64              conv layer2.0.conv2 64 64 3     bn layer2.0.bn2 64
conv layer2.0.downsample.0 64 32 1                              bn layer2.0.downsample.1 64
conv layer2.1.conv1 64 64 3     bn layer2.1.bn1 64              conv layer2.1.conv2 64 64 3     bn layer2.1.bn2 64
conv layer3.0.conv1 128 64 3    bn layer3.0.bn1 128             conv layer3.0.conv2 128 128 3   bn layer3.0.bn2 128
conv layer3.0.downsample.0 128 64 1                             bn layer3.0.downsample.1 128
conv layer3.1.conv1 128 128 3   bn layer3.1.bn1 128             conv layer3.1.conv2 128 128 3   bn layer3.1.bn2 128
conv layer4.0.conv1 256 128 3   bn layer4.0.bn1 256             conv layer4.0.conv2 256 256 3   bn layer4.0.bn2 256
conv layer4.0.downsample.0 256 128 1                            bn layer4.0.downsample.1 256
conv layer4.1.conv1 256 256 3   bn layer4.1.bn1 256             conv layer4.1.conv2 256 256 3   bn layer4.1.bn2 256
conv compression3.0 64 128 1    bn compression3.1 64            conv compression4.0 64 256 1    bn compression4.1 64
conv down3.0 128 64 3           bn down3.1 128
conv down4.0 128 64 3           bn down4.1 128                  conv down4.3 256 128 3          bn down4.4 256
conv layer3_.0.conv1 64 64 3    bn layer3_.0.bn1 64             conv layer3_.0.conv2 64 64 3    bn layer3_.0.bn2 64
conv layer3_.1.conv1 64 64 3    bn layer3_.1.bn1 64             conv layer3_.1.conv2 64 64 3    bn layer3_.1.bn2 64
conv layer4_.0.conv1 64 64 3    bn layer4_.0.bn1 64             conv layer4_.0.conv2 64 64 3    bn layer4_.0.bn2 64
conv layer4_.1.conv1 64 64 3    bn layer4_.1.bn1 64             conv layer4_.1.conv2 64 64 3    bn layer4_.1.bn2 64
conv layer5_.0.conv1 64 64 1    bn layer5_.0.bn1 64             conv layer5_.0.conv2 64 64 3    bn layer5_.0.bn2 64
conv layer5_.0.conv3 128 64 1   bn layer5_.0.bn3 128
conv layer5_.0.downsample.0 128 64 1                            bn layer5_.0.downsample.1 128
conv layer5.0.conv1 256 256 1   bn layer5.0.bn1 256             conv layer5.0.conv2 256 256 3   bn layer5.0.bn2 256
conv layer5.0.conv3 512 256 1   bn layer5.0.bn3 512
conv layer5.0.downsample.0 512 256 1                            bn layer5.0.downsample.1 512
bn spp.scale1.1 512             conv spp.scale1.3 128 512 1     bn spp.scale2.1 512             conv spp.scale2.3 128 512 1
bn spp.scale3.1 512             conv spp.scale3.3 128 512 1     bn spp.scale4.1 512             conv spp.scale4.3 128 512 1
bn spp.scale0.0 512             conv spp.scale0.2 128 512 1
bn spp.process1.0 128           conv spp.process1.2 128 128 3   bn spp.process2.0 128           conv spp.process2.2 128 128 3
bn spp.process3.0 128           conv spp.process3.2 128 128 3   bn spp.process4.0 128           conv spp.process4.2 128 128 3
bn spp.compression.0 640        conv spp.compression.2 128 640 1
bn spp.shortcut.0 512           conv spp.shortcut.2 128 512 1
bn seghead_extra.bn1 64         conv seghead_extra.conv1 64 64 3
bn seghead_extra.bn2 64         conv+ seghead_extra.conv2 19 64 1
bn final_layer.bn1 128          conv final_layer.conv1 64 128 3
bn final_layer.bn2 64           conv+ final_layer.conv2 19 64 1
"""  # noqa: E501 (a table)


def conv(name: str, out: int, inside: int, kernel: int, bias: bool = False) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (out, inside, kernel, kernel)}
    return shapes | ({f"{name}.bias": (out,)} if bias else {})


def bn(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{v}": (channels,) for v in vectors} | {f"{name}.num_batches_tracked": ()}


def resnet_shapes(name: str) -> dict[str, tuple[int, ...]]:
    kind, stages, _, _ = RESNETS[name]
    shapes = conv("conv1", 64, 3, 7) | bn("bn1", 64)
    for layer, blocks, before, inside, out, stride in stages:
        for index in range(blocks):
            block, source = f"{layer}.{index}", before if index == 0 else out
            if kind == "basic":
                shapes |= conv(f"{block}.conv1", inside, source, 3) | bn(f"{block}.bn1", inside)
                shapes |= conv(f"{block}.conv2", out, inside, 3) | bn(f"{block}.bn2", out)
            else:
                shapes |= conv(f"{block}.conv1", inside, source, 1) | bn(f"{block}.bn1", inside)
                shapes |= conv(f"{block}.conv2", inside, inside, 3) | bn(f"{block}.bn2", inside)
                shapes |= conv(f"{block}.conv3", out, inside, 1) | bn(f"{block}.bn3", out)
            if index == 0 and (stride == 2 or before != out):
                shapes |= conv(f"{block}.downsample.0", out, before, 1) | bn(f"{block}.downsample.1", out)
    return shapes | {"fc.weight": (1000, out), "fc.bias": (1000,)}


def mobilenet_shapes() -> dict[str, tuple[int, ...]]:
    shapes = conv("features.0.0", 32, 3, 3) | bn("features.0.1", 32)
    for layer, before, inside, out, _ in MOBILENETV2:
        name, at = f"features.{layer}.conv", 0
        if inside != before:
            shapes |= conv(f"{name}.0.0", inside, before, 1) | bn(f"{name}.0.1", inside)
            at = 1
        shapes |= conv(f"{name}.{at}.0", inside, 1, 3) | bn(f"{name}.{at}.1", inside)
        shapes |= conv(f"{name}.{at + 1}", out, inside, 1) | bn(f"{name}.{at + 2}", out)
    shapes |= conv("features.18.0", 1280, 320, 1) | bn("features.18.1", 1280)
    return shapes | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def ddrnet_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    words = DDRNET23_SLIM.split()
    while words:
        if words[0] == "bn":
            shapes |= bn(words[1], int(words[2]))
            words = words[3:]
        else:
            shapes |= conv(words[1], *map(int, words[2:5]), bias=words[0] == "conv+")
            words = words[5:]
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> State:
    """Weights that keep activations at a size where a misplaced ReLU shows."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        elif len(shape) == 1:
            state[name] = torch.randn(shape, generator=generator) * 0.2 + (0.8 if "weight" in name else 0.0)
        else:
            fan_in = shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
            state[name] = torch.randn(shape, generator=generator) * fan_in**-0.5
    return state


def parameter_count(shapes: dict[str, tuple[int, ...]]) -> int:
    state = ("running_mean", "running_var", "num_batches_tracked")
    return sum(torch.Size(shape).numel() for name, shape in shapes.items() if not name.endswith(state))


class Reference:
    """Layers by name, straight from a state dict."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)

    def bn(self, name: str, x: Tensor) -> Tensor:
        s = self.state
        scale = s[f"{name}.weight"] / torch.sqrt(s[f"{name}.running_var"] + 1e-5)
        shift = s[f"{name}.bias"] - s[f"{name}.running_mean"] * scale
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    def basic(self, name: str, x: Tensor, stride: int = 1, last_relu: bool = True) -> Tensor:
        y = F.relu(self.bn(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride)))
        return self._close(name, x, self.bn(f"{name}.bn2", self.conv(f"{name}.conv2", y)), stride, last_relu)

    def bottleneck(self, name: str, x: Tensor, stride: int = 1, last_relu: bool = True) -> Tensor:
        y = F.relu(self.bn(f"{name}.bn1", self.conv(f"{name}.conv1", x)))
        y = F.relu(self.bn(f"{name}.bn2", self.conv(f"{name}.conv2", y, stride)))
        return self._close(name, x, self.bn(f"{name}.bn3", self.conv(f"{name}.conv3", y)), stride, last_relu)

    def _close(self, name: str, x: Tensor, y: Tensor, stride: int, last_relu: bool) -> Tensor:
        if f"{name}.downsample.0.weight" in self.state:
            x = self.bn(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
        return F.relu(y + x) if last_relu else y + x

    def bn_relu_conv(self, norm: str, conv: str, x: Tensor) -> Tensor:
        return self.conv(conv, F.relu(self.bn(norm, x)))


def reference_resnet(name: str, state: State, x: Tensor) -> list[Tensor]:
    net, (kind, stages, _, _) = Reference(state), RESNETS[name]
    block = net.basic if kind == "basic" else net.bottleneck
    x = F.max_pool2d(F.relu(net.bn("bn1", net.conv("conv1", x, 2))), 3, 2, 1)
    outputs = []
    for layer, blocks, _, _, _, stride in stages:
        for index in range(blocks):
            x = block(f"{layer}.{index}", x, stride if index == 0 else 1)
        outputs.append(x)
    return outputs


def reference_mobilenet(state: State, x: Tensor) -> list[Tensor]:
    net = Reference(state)

    def by_channel(name: str, y: Tensor, stride: int) -> Tensor:
        return F.conv2d(y, state[f"{name}.weight"], None, stride, padding=1, groups=y.shape[1])

    x = F.relu6(net.bn("features.0.1", net.conv("features.0.0", x, 2)))
    outputs = {}
    for layer, before, inside, out, stride in MOBILENETV2:
        name, at, y = f"features.{layer}.conv", 0, x
        if inside != before:
            y, at = F.relu6(net.bn(f"{name}.0.1", net.conv(f"{name}.0.0", y))), 1
        y = F.relu6(net.bn(f"{name}.{at}.1", by_channel(f"{name}.{at}.0", y, stride)))
        y = net.bn(f"{name}.{at + 2}", net.conv(f"{name}.{at + 1}", y))
        x = x + y if stride == 1 and before == out else y
        outputs[x.shape[-1]] = x  # the last one of its size
    return [outputs[width] for width in sorted(outputs, reverse=True)][1:]


def reference_ddrnet(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    net = Reference(state)
    size = (x.shape[-2] // 8, x.shape[-1] // 8)

    def resize(y: Tensor, to: tuple[int, int] = size) -> Tensor:
        return F.interpolate(y, size=to, mode="bilinear", align_corners=False)

    def stage(name: str, y: Tensor, stride: int = 1) -> Tensor:
        return net.basic(f"{name}.1", net.basic(f"{name}.0", y, stride), last_relu=False)

    def head(name: str, y: Tensor) -> Tensor:
        y = net.bn_relu_conv(f"{name}.bn1", f"{name}.conv1", y)
        return net.bn_relu_conv(f"{name}.bn2", f"{name}.conv2", y)

    x = F.relu(net.bn("conv1.1", net.conv("conv1.0", x, 2)))
    x = F.relu(net.bn("conv1.4", net.conv("conv1.3", x, 2)))
    x = stage("layer1", x)
    x2 = stage("layer2", F.relu(x), 2)
    x3 = stage("layer3", F.relu(x2), 2)
    high = stage("layer3_", F.relu(x2))
    low = x3 + net.bn("down3.1", net.conv("down3.0", F.relu(high), 2))
    high = high + resize(net.bn("compression3.1", net.conv("compression3.0", F.relu(x3))))
    auxiliary = head("seghead_extra", high)
    x4 = stage("layer4", F.relu(low), 2)
    high = stage("layer4_", F.relu(high))
    down = F.relu(net.bn("down4.1", net.conv("down4.0", F.relu(high), 2)))
    low = x4 + net.bn("down4.4", net.conv("down4.3", down, 2))
    high = high + resize(net.bn("compression4.1", net.conv("compression4.0", F.relu(x4))))
    high = net.bottleneck("layer5_.0", F.relu(high), last_relu=False)
    low = net.bottleneck("layer5.0", F.relu(low), 2, last_relu=False)

    small = (low.shape[-2], low.shape[-1])
    pooled = [F.avg_pool2d(low, k, s, p) for k, s, p in ((5, 2, 2), (9, 4, 4), (17, 8, 8))]
    pooled.append(low.mean(dim=(2, 3), keepdim=True))
    maps = [net.bn_relu_conv("spp.scale0.0", "spp.scale0.2", low)]
    for i, average in enumerate(pooled, start=1):
        branch = resize(net.bn_relu_conv(f"spp.scale{i}.1", f"spp.scale{i}.3", average), small)
        maps.append(net.bn_relu_conv(f"spp.process{i}.0", f"spp.process{i}.2", branch + maps[-1]))
    context = net.bn_relu_conv("spp.compression.0", "spp.compression.2", torch.cat(maps, dim=1))
    context = context + net.bn_relu_conv("spp.shortcut.0", "spp.shortcut.2", low)
    return head("final_layer", resize(context) + high), auxiliary
