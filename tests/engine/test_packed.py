"""Packing convolutions changes nothing but the time they take."""

import torch
import torch.nn.functional as F
from torch import fx, nn

from tilestream.engine.dense.packed import PackedConv2d, pack_convolutions


class Awkward(nn.Module):
    """Convolutions whose ReLU must, may and must not be drawn into them."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 8, 3, padding=1)
        self.functional = nn.Conv2d(8, 8, 3, stride=2, padding=2, dilation=2)
        self.shared = nn.Conv2d(8, 8, 1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.reflect = nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect")
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(self.plain(x))
        x = F.relu(self.functional(x))
        y = self.shared(x)  # read with and without its ReLU
        return self.reflect(self.grouped(F.relu(y) - y))


def test_awkward_network_computes_the_same():
    torch.manual_seed(0)
    module = Awkward().eval().requires_grad_(False)
    x = torch.randn(2, 3, 17, 22).to(memory_format=torch.channels_last)
    expected = module(x)
    packed = pack_convolutions(fx.symbolic_trace(module))
    assert torch.allclose(packed(x), expected, atol=1e-5)
    other = torch.randn(1, 3, 40, 9).to(memory_format=torch.channels_last)
    assert torch.allclose(packed(other), Awkward.forward(module, other), atol=1e-5)


def test_every_size_of_map_has_its_own_layout_and_their_number_is_bounded():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, padding=1).eval().requires_grad_(False)
    packed = PackedConv2d(conv, relu=False)
    for side in (9, 16, 23, 9, 32, 40, 16, 9):
        x = torch.randn(2, 8, side, side + 3).to(memory_format=torch.channels_last)
        assert torch.allclose(packed(x), conv(x), atol=1e-5)
        assert x.shape[2:] in packed._packed and len(packed._packed) <= 4


def test_relu_is_fused_only_where_nobody_else_reads_the_sum():
    module = Awkward().eval().requires_grad_(False)
    packed = pack_convolutions(fx.symbolic_trace(module))
    fused = {name: m._attribute for name, m in packed.named_modules() if isinstance(m, PackedConv2d)}
    assert fused == {"plain": "relu", "functional": "relu", "shared": "none", "grouped": "none"}
    assert type(packed.reflect) is nn.Conv2d
