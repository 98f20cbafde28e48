"""Folded ImageNet weights: the encoder computes what the folded network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.models.resnet import BasicBlock, ResNetEncoder
from tilestream_training.initialise import initialise_from_folded

# name: out, in, kernel, stride of a one-block-a-stage ResNet without its last stage
CONVOLUTIONS = {
    "conv1": (64, 3, 7, 2),
    "layer1.0.conv1": (64, 64, 3, 1),
    "layer1.0.conv2": (64, 64, 3, 1),
    "layer2.0.conv1": (128, 64, 3, 2),
    "layer2.0.conv2": (128, 128, 3, 1),
    "layer2.0.downsample.0": (128, 64, 1, 2),
    "layer3.0.conv1": (256, 128, 3, 2),
    "layer3.0.conv2": (256, 256, 3, 1),
    "layer3.0.downsample.0": (256, 128, 1, 2),
}


@pytest.fixture(scope="module")
def folded() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, (out, inside, kernel, _) in CONVOLUTIONS.items():
        # Channels of very different scale: what batch norm in training mode would wipe out.
        scale = np.exp(rng.normal(0, 0.7, (out, 1, 1, 1))) * (inside * kernel**2) ** -0.5
        weight = rng.normal(0, 1, (out, inside, kernel, kernel)) * scale
        arrays[f"{name}.weight"] = weight.astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.3, out).astype(np.float32)
    return arrays


@pytest.fixture
def path(folded, tmp_path) -> Path:
    np.savez(tmp_path / "folded.npz", **folded)
    return tmp_path / "folded.npz"


def images(seed: int, count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def folded_network(arrays: dict[str, np.ndarray], x: Tensor) -> list[Tensor]:
    def conv(name: str, y: Tensor) -> Tensor:
        weight, bias = (torch.from_numpy(arrays[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        return F.conv2d(y, weight, bias, CONVOLUTIONS[name][3], padding=weight.shape[-1] // 2)

    x = F.max_pool2d(F.relu(conv("conv1", x)), 3, 2, 1)
    outputs = []
    for layer in ("layer1.0", "layer2.0", "layer3.0"):
        skip = conv(f"{layer}.downsample.0", x) if f"{layer}.downsample.0" in CONVOLUTIONS else x
        x = F.relu(conv(f"{layer}.conv2", F.relu(conv(f"{layer}.conv1", x))) + skip)
        outputs.append(x)
    return outputs


@pytest.fixture
def encoder() -> ResNetEncoder:
    torch.manual_seed(0)
    return ResNetEncoder(BasicBlock, (1, 1, 1, 1))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def test_evaluation_mode_equals_the_folded_network(encoder, folded, path) -> None:
    assert initialise_from_folded(encoder, path, images(1)) == len(CONVOLUTIONS)
    encoder.eval()
    for x in (images(1), images(2, count=1), 5.0 * images(3)):  # also far from the calibration images
        for found, expected in zip(encoder(x)[:3], folded_network(folded, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@torch.no_grad()
def test_training_mode_nearly_equals_the_folded_network(encoder, folded, path) -> None:
    calibration, fresh = images(1), images(2)
    initialise_from_folded(encoder, path, calibration)
    assert encoder.training
    for found, expected in zip(encoder(calibration)[:3], folded_network(folded, calibration), strict=True):
        assert relative_error(found, expected) < 1e-3
    for found, expected in zip(encoder(fresh)[:3], folded_network(folded, fresh), strict=True):
        assert relative_error(found, expected) < 0.35


@torch.no_grad()
def test_what_the_file_lacks_is_left_as_it_was(encoder, path) -> None:
    before = {key: value.clone() for key, value in encoder.layer4.state_dict().items()}
    initialise_from_folded(encoder, path, images(1))
    assert all(torch.equal(value, before[key]) for key, value in encoder.layer4.state_dict().items())


@torch.no_grad()
def test_no_hooks_stay_behind(encoder, path) -> None:
    initialise_from_folded(encoder, path, images(1))
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.eval()(images(9))
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
