"""The networks: sizes, determinism, traceability, and that nothing leaks between pictures of a batch."""

from __future__ import annotations

import pytest
import torch
import torch.fx
from torch import nn

from tilestream.models.ddrnet import ddrnet23_slim
from tilestream.models.layers import upsample
from tilestream.models.mobilenet import MobileNetV2Encoder
from tilestream.models.resnet import resnet18, resnet34, resnet50
from tilestream.models.swiftnet import swiftnet_mobilenetv2, swiftnet_resnet18

NETWORKS = {
    "swiftnet_resnet18": swiftnet_resnet18,
    "swiftnet_mobilenetv2": swiftnet_mobilenetv2,
    "ddrnet23_slim": ddrnet23_slim,
}


@pytest.fixture(params=NETWORKS, scope="module")
def network(request) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[request.param](11)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
    return model.eval()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 1, 1), (3, 1, 2), (2, 3, 1)])
def test_logits_have_the_size_of_the_input(network, batch, rows, columns) -> None:
    height, width = rows * network.stride, columns * network.stride
    logits = network(torch.randn(batch, 3, height, width))
    assert logits.shape == (batch, 11, height, width)
    assert torch.isfinite(logits).all()


def test_auxiliary_output_is_what_forward_upsamples(network) -> None:
    x = torch.randn(1, 3, 2 * network.stride, 3 * network.stride)
    logits, auxiliary = network.forward_with_auxiliary(x)
    factor = x.shape[-1] // logits.shape[-1]
    assert torch.equal(network(x), upsample(logits, factor))
    assert auxiliary.shape == (1, 11, x.shape[-2] // 8, x.shape[-1] // 8)


def test_evaluation_is_deterministic_and_leaves_the_state_alone(network) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(2, 3, 64, 128)
    kept = x.clone()
    assert torch.equal(network(x), network(x))
    assert torch.equal(x, kept)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_pictures_of_a_batch_do_not_mix(network) -> None:
    x = torch.randn(3, 3, 64, 64)
    together = network(x)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], network(x[index : index + 1]))


def test_symbolic_trace_computes_the_same_at_any_size(network) -> None:
    traced = torch.fx.symbolic_trace(network)
    for height, width in ((64, 64), (64, 192), (128, 64)):
        x = torch.randn(1, 3, height, width)
        assert torch.equal(traced(x), network(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name) -> None:
    """No parameter is cut off from the losses, in training mode with an odd batch."""
    model = NETWORKS[name](5).train()
    with torch.enable_grad():
        logits, auxiliary = model.forward_with_auxiliary(torch.randn(3, 3, 128, 128))
        (logits.square().mean() + auxiliary.square().mean()).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (resnet18, [64, 128, 256, 512]),
        (resnet34, [64, 128, 256, 512]),
        (resnet50, [256, 512, 1024, 2048]),
        (MobileNetV2Encoder, [24, 32, 96, 320]),
    ],
)
def test_encoders_give_strides_4_to_32(build, channels) -> None:
    encoder = build().eval()
    assert encoder.out_channels == channels
    for stride, count, features in zip(
        (4, 8, 16, 32), channels, encoder(torch.randn(1, 3, 64, 96)), strict=True
    ):
        assert features.shape == (1, count, 64 // stride, 96 // stride)


def test_encoder_outputs_are_not_overwritten_by_later_layers() -> None:
    encoder = resnet18().eval()
    seen = []
    handles = [
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
        for layer in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
    ]
    outputs = encoder(torch.randn(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert all(torch.equal(kept, output) for kept, output in zip(seen, outputs, strict=True))


def test_upsample_has_half_pixel_centres() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4)
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    assert torch.equal(upsample(ramp, 2)[0, 0, 0], expected)
