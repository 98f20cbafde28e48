"""Convolutions that add and end in a ReLU: the same values, and only where nobody reads what lies between."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from support.networks import lively
from support.toy_networks import TOYS, toy
from tilestream.engine.dense import executor
from tilestream.engine.dense.executor import DenseExecutor, _with_outputs
from tilestream.engine.dense.fused import FusedConv2d, fuse_convolutions
from tilestream.engine.dense.packed import PackedConv2d
from tilestream.engine.lowering.lower import lower
from tilestream.models import list_models

CPU = torch.device("cpu")


class Awkward(nn.Module):
    """Convolutions whose ReLU and addition must, may and must not be drawn into them."""

    def __init__(self):
        super().__init__()

        def conv(**options):
            return nn.Conv2d(8, 8, 3, padding=1, **options)

        self.plain, self.functional = nn.Conv2d(3, 8, 3, padding=1), conv(bias=False)
        self.added, self.twice, self.shared, self.summed = conv(), conv(), conv(), conv()
        self.left, self.right, self.context = conv(), conv(), nn.Conv2d(8, 8, 1)
        self.grouped, self.same = conv(groups=4), nn.Conv2d(8, 8, 3, padding="same")
        self.reflected, self.strided = conv(padding_mode="reflect"), conv(stride=2, dilation=2)
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(self.plain(x))
        x = F.relu(self.functional(x))
        x = self.relu(x + self.added(x))
        y = self.twice(x)  # read twice
        x = self.relu(y) + y
        x = self.shared(F.relu(self.shared(x)))  # called twice
        z = self.summed(x) + x  # a sum that is read twice
        x = self.relu(z) - z
        x = torch.relu(self.left(x) + self.right(x))
        x = F.relu(self.context(F.adaptive_avg_pool2d(x, 1)) + x)  # a sum that is larger than its convolution
        x = F.relu(self.grouped(x))
        x = F.relu(self.same(x))
        x = F.relu(self.reflected(x))
        return torch.relu(input=self.strided(x))


def fused_names(network):
    return {name for name, module in network.named_modules() if isinstance(module, FusedConv2d)}


def test_awkward_network_computes_the_same():
    torch.manual_seed(0)
    module = Awkward().eval().requires_grad_(False)
    x = torch.randn(2, 3, 17, 22)
    expected = module(x)
    fused = fuse_convolutions(fx.symbolic_trace(module))
    assert torch.allclose(fused(x), expected, atol=1e-5)
    assert fused_names(fused) == {"plain", "functional", "added", "right", "context"}
    left = [str(node.target) for node in fused.graph.nodes if node.op == "call_module"]
    assert left.count("shared") == 2 and "left" in left


@pytest.mark.parametrize("name", [*TOYS, *list_models()])
def test_networks_compute_the_same(name):
    module = toy(name) if name in TOYS else lively(name)
    program = lower(module, 16 if name in TOYS else 64)
    plain, fused = (_with_outputs(program, [program.output]) for _ in range(2))
    fused = fuse_convolutions(fused)
    x = torch.randn(2, 3, 64, 128)
    with torch.no_grad():
        (expected,), (found,) = plain(x), fused(x)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", list_models())
def test_most_convolutions_with_a_relu_of_shipped_networks_are_fused(name):
    program = lower(lively(name))
    fused = fuse_convolutions(_with_outputs(program, [program.output]))
    # cuDNN has no ReLU6, so that of a MobileNetV2 only the decoder is left.
    assert len(fused_names(fused)) >= (12 if "mobilenet" in name else 15)


@given(
    side=st.tuples(st.integers(7, 20), st.integers(7, 20)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
)
def test_what_is_added_is_known_to_fit_or_not(side, kernel, stride, padding, dilation):
    conv = nn.Conv2d(2, 3, kernel, stride=stride, padding=padding, dilation=dilation)
    fused, x = FusedConv2d(conv), torch.randn(2, 2, *side)
    expected = conv(x)
    assert fused.output_shape(x) == expected.shape
    assert torch.allclose(fused(x), expected.relu(), atol=1e-5)
    z = torch.randn(1, 3, 1, 1)
    assert torch.allclose(fused(x, z), (expected + z).relu(), atol=1e-5)


def test_only_cudnn_gets_fused_convolutions(monkeypatch):
    module = toy("ladder")
    kinds = {type(each) for each in DenseExecutor(module, CPU, torch.float32).network.modules()}
    assert PackedConv2d in kinds and FusedConv2d not in kinds
    called = []
    monkeypatch.setattr(executor, "fuse_convolutions", called.append)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    DenseExecutor(module, CPU, torch.float32)
    assert not called
