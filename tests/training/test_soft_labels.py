"""What teachers say of stills: the mean over networks, scales and the mirror, made once and kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import Sample
from tilestream_training.sampling import Source
from tilestream_training.soft_labels import answer, soft_labels
from tilestream_training.stills import hold_stills
from tilestream_training.views import draw_views

CPU = torch.device("cpu")
CLASSES = 3


class ByColour(nn.Module):
    """Scores are the colours: what it says of a pixel depends on that pixel alone."""

    mean, std, stride = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 32

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x * self.sharpness


def hills(height: int, width: int) -> Sample:
    """Colours that change slowly."""
    y, x = np.mgrid[:height, :width] / 20
    image = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=2) * 100 + 127
    return Sample(image.astype(np.uint8), np.zeros((height, width), np.uint8), "hills")


def direct(network: nn.Module, image: Tensor) -> Tensor:
    """Probabilities [N, C, h / 4, w / 4] of images in 0..1."""
    x = (image - 0.5) / 0.25
    return F.avg_pool2d(network(x).softmax(dim=1), 4)


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_it_is_the_mean_of_networks_scales_and_the_mirror(size):
    networks = [ByColour(0.5), ByColour(2.0)]
    image = hills(*size).image
    with torch.no_grad():
        found = answer(networks, image, CPU, (0.8, 1.0, 1.33))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0
        padded = F.pad(pixels, (0, -size[1] % 4, 0, -size[0] % 4), mode="replicate")
        expected = torch.stack([direct(network, padded) for network in networks]).mean(dim=0)[0]
    assert found.shape == (CLASSES, -(-size[0] // 4), -(-size[1] // 4))
    torch.testing.assert_close(found.sum(dim=0), torch.ones(found.shape[1:]))
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    assert len(networks[0].seen) == 3 + 1 and all(shape[0] == 2 for shape in networks[0].seen[:3])
    assert all(side % 32 == 0 for shape in networks[0].seen[:3] for side in shape[2:])


def test_sampled_by_a_view_they_are_what_the_teacher_says_of_the_view(tmp_path):
    network, sample = ByColour(), hills(96, 128)
    soft = soft_labels([network], [sample], tmp_path, CPU, scales=(1.0,))
    stills = hold_stills([Source((sample,), 1.0, ())], CLASSES, CPU, soft)
    options = AugmentOptions(crop=(64, 64), scale=(0.9, 1.5), jitter=0.0, mix=0.0)
    mean = torch.tensor(network.mean).view(1, 3, 1, 1)
    views = draw_views(stills, 8, options, mean, seed=0, step=0)
    with torch.no_grad():
        expected = direct(network, views.images)
    inside = F.max_pool2d(-views.soft.sum(dim=1), 5, 1, 2) < -0.999
    assert inside.float().mean() > 0.6
    found, wanted = (values.permute(0, 2, 3, 1)[inside] for values in (views.soft, expected))
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)


def test_what_is_kept_is_not_made_again(tmp_path):
    samples = [hills(64, 64), hills(48, 64)]
    first = ByColour()
    made = soft_labels([first], samples, tmp_path, CPU)
    again = ByColour()
    kept = soft_labels([again], samples, tmp_path, CPU)
    assert first.seen and not again.seen
    assert all(np.array_equal(a, b) for a, b in zip(made, kept, strict=True))
    other = ByColour(3.0)
    changed = soft_labels([other], samples, tmp_path, CPU)
    assert other.seen and not np.array_equal(changed[0], made[0])
