"""Score fusion of a batch: frame by frame what the host reckons."""

import numpy as np
import pytest
import torch

from support.motions import smooth
from support.textures import texture
from tilestream.engine.memory.scores import SmoothedScores
from tilestream.engine.resident.scores import levelled, smoothed

COUNT, CLASSES = 3, 6


def scene(size, scale, stride):
    shape = tuple(-(-side // scale) for side in size)
    grid = tuple(-(-side // 16) * 16 // stride for side in size)
    scores, earlier = (smooth(COUNT, CLASSES, *grid, 5.0, seed) for seed in (1, 2))
    luma = torch.from_numpy(np.stack([texture(*shape, seed) for seed in range(COUNT)]))
    before = (luma.int() + torch.tensor([0, 5, 30]).view(-1, 1, 1)).clamp(0, 255).to(torch.uint8)
    return scores, levelled(earlier), luma, before, smooth(COUNT, 2, *shape, 3.0, 4)


@pytest.mark.parametrize(("size", "scale", "stride"), [((64, 96), 1, 4), ((60, 90), 2, 4), ((64, 96), 4, 2)])
def test_scores_are_those_of_the_host(size, scale, stride):
    scores, earlier, luma, before, displacement = scene(size, scale, stride)
    weights = torch.tensor([0.5, 0.8, 0.5])
    found = smoothed(scores, earlier, weights, luma, before, displacement, size, (scale, stride))
    assert found.dtype == scores.dtype
    for index in range(COUNT):
        kept = SmoothedScores(earlier[index], before[index], scale, stride)
        moved = displacement[index].permute(1, 2, 0).contiguous()
        expected = kept.smooth(scores[index], luma[index], moved, size, float(weights[index]))
        difference = (found[index] - expected).abs()
        assert difference.mean() < 0.02 and difference.quantile(0.999) < 0.5
        assert (found[index].argmax(0) != expected.argmax(0)).float().mean() < 0.01


def test_without_weight_scores_are_only_levelled_whatever_there_was_before():
    size = (64, 96)
    scores, earlier, luma, before, displacement = scene(size, 2, 4)
    earlier[1] = torch.nan
    weights = torch.tensor([0.5, 0.0, 0.0])
    found = smoothed(scores, earlier, weights, luma, before, displacement, size, (2, 4))
    assert torch.equal(found[1:], levelled(scores)[1:])
    assert not torch.equal(found[0], levelled(scores)[0])


def test_scores_keep_their_type():
    size = (64, 96)
    scores, *rest = scene(size, 2, 4)
    scores = scores.bfloat16()
    found = smoothed(scores, rest[0].bfloat16(), torch.ones(COUNT) / 2, *rest[1:], size, (2, 4))
    assert found.dtype == torch.bfloat16


def test_levelled_scores_have_their_best_class_at_0():
    scores = torch.randn((2, 5, 3, 4))
    found = levelled(scores)
    assert (found.amax(dim=1) == 0).all()
    assert torch.equal(found.argmax(dim=1), scores.argmax(dim=1))
