"""The dense executor is what the module computes, only faster."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.networks import lively
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.dense.packed import PackedConv2d
from tilestream.engine.precision import has_fast_bf16

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["swiftnet_resnet18", "ddrnet23_slim"])
def model(request):
    return lively(request.param)


@pytest.fixture(scope="module")
def executor(model):
    return DenseExecutor(model, CPU, torch.float32)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference_logits(model, image):
    """The module called as its docstring says: normalise, pad, run, crop."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
    x = (x - torch.tensor(model.mean).view(1, 3, 1, 1)) / torch.tensor(model.std).view(1, 3, 1, 1)
    height, width = image.shape[:2]
    x = F.pad(x, (0, -width % model.stride, 0, -height % model.stride))
    with torch.no_grad():
        return model(x)[0, :, :height, :width]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 127), (90, 160), (7, 130)])
def test_labels_are_the_modules(model, executor, height, width):
    image = picture(height, width)
    logits = reference_logits(model, image)
    labels = torch.from_numpy(executor.labels(image)).long()
    assert labels.shape == (height, width)
    # Where rounding decides between two classes, either will do.
    chosen = logits.gather(0, labels[None])[0]
    assert torch.allclose(chosen, logits.max(dim=0).values, atol=1e-3)


def test_a_batch_is_the_frames_one_by_one(executor):
    images = [picture(96, 128, seed) for seed in range(3)]
    together = executor.run(images)[0].numpy()
    assert together.shape == (3, 96, 128)
    for index, image in enumerate(images):
        assert (together[index] != executor.labels(image)).mean() < 1e-3


def test_the_same_frame_gives_the_same_labels(executor):
    image = picture(96, 128)
    assert np.array_equal(executor.labels(image), executor.labels(image))


def test_confidence_is_the_margin_of_the_softmax(model, executor):
    image = picture(64, 96)
    planes = executor.run([image], want_confidence=True)
    top = F.softmax(reference_logits(model, image), dim=0).topk(2, dim=0).values
    expected = ((top[0] - top[1]) * 255).round().numpy()
    assert np.abs(planes[1][0].numpy().astype(int) - expected).max() <= 1
    assert len(executor.run([image])) == 1


def test_everything_that_can_be_folded_or_packed_is(executor):
    modules = list(executor.network.modules())
    assert not any(type(module) is nn.Conv2d for module in modules)
    assert any(isinstance(module, PackedConv2d) for module in modules)


def test_the_model_itself_is_left_alone(model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    DenseExecutor(model, CPU, torch.float32).run([picture(64, 64)])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.skipif(not has_fast_bf16(CPU), reason="this CPU has no bf16 instructions")
def test_bf16_is_close_to_fp32(model):
    image = picture(96, 128)
    logits = reference_logits(model, image)
    labels = torch.from_numpy(DenseExecutor(model, CPU, torch.bfloat16).labels(image)).long()
    lost = logits.max(dim=0).values - logits.gather(0, labels[None])[0]
    assert lost.max() < 0.1 * (logits.max() - logits.min())
