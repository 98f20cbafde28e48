"""What moved, stood still, changed its exposure or is hidden, of a batch: as the host sees it."""

import numpy as np
import pytest
import torch

from support.textures import moved_pair, noisy, texture
from tilestream.engine.motion import estimators, luma
from tilestream.engine.motion.estimators import DisMotion
from tilestream.engine.resident import motion, reference

SHIFTS = [(3, 0), (-4, 2), (6, -5), (0, 0), (1, 1)]


def batch(pairs):
    previous, current = (torch.from_numpy(np.stack(each)) for each in zip(*pairs, strict=True))
    return previous, current, torch.zeros((len(pairs), 2, *current.shape[1:]))


def test_known_shifts_are_found():
    pairs = [moved_pair(dx, dy, 72, 104, seed) for seed, (dx, dy) in enumerate(SHIFTS)]
    found = motion.estimate(reference, *batch(pairs))
    assert found.still.tolist() == [False, False, False, True, False]
    for flow, residual, shift in zip(found.flow, found.residual, SHIFTS, strict=True):
        inner = flow[:, 12:-12, 12:-12]
        assert torch.tensor(shift).view(2, 1, 1).sub(inner).abs().quantile(0.9) < 0.2
        assert residual[12:-12, 12:-12].mean() < 2.0
    assert (found.flow[3] == 0).all() and not found.occluded[3].any()


def test_large_motion_is_found_from_what_is_expected():
    previous, current, rest = batch([moved_pair(18, -14, 96, 120)])
    expected = rest + torch.tensor([17.0, -13.0]).view(1, 2, 1, 1)
    found = motion.estimate(reference, previous, current, expected)
    inner = found.flow[0, :, 24:-24, 24:-24]
    assert torch.tensor([18.0, -14.0]).view(2, 1, 1).sub(inner).abs().median() < 0.2


def test_motion_is_about_as_good_as_that_of_the_host():
    pairs = [moved_pair(dx, dy, 72, 104, seed) for seed, (dx, dy) in enumerate(SHIFTS[:3])]
    previous, current, rest = batch(pairs)
    ours = motion.estimate(reference, previous, current, rest)
    theirs = DisMotion().estimate(previous, current, rest.permute(0, 2, 3, 1), 1)
    assert ours.residual.mean() < theirs.residual.float().mean() + 1.0
    assert abs(ours.occluded.float().mean() - theirs.occluded.float().mean()) < 0.05


def test_a_frame_s_motion_does_not_depend_on_the_others():
    pairs = [moved_pair(dx, dy, 40, 56, seed) for seed, (dx, dy) in enumerate(SHIFTS)]
    together = motion.estimate(reference, *batch(pairs))
    for index, pair in enumerate(pairs):
        alone = motion.estimate(reference, *batch([pair]))
        assert torch.allclose(alone.flow[0], together.flow[index], atol=1e-3)
        assert torch.equal(alone.still[0], together.still[index])


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (5, 7), (8, 8), (15, 40)])
def test_thumbnails_of_any_size(shape):
    rng = np.random.default_rng(0)
    previous, current = (torch.from_numpy(rng.integers(0, 256, (2, *shape), np.uint8)) for _ in range(2))
    found = motion.estimate(reference, previous, current, torch.zeros((2, 2, *shape)))
    assert found.flow.shape == (2, 2, *shape) and torch.isfinite(found.flow).all()
    assert found.residual.shape == found.occluded.shape == (2, *shape)


@pytest.mark.parametrize("period", [4, 8, 16])
def test_flow_along_an_edge_is_a_number(period):
    y, x = np.mgrid[:64, :96]
    stripes = [((x + y + shift) // period % 2 * 255).astype(np.float32) for shift in (0, 2)]
    previous, current = (torch.from_numpy(each)[None] for each in stripes)
    assert torch.isfinite(reference.flow(previous, current, torch.zeros((1, 2, 64, 96)))).all()


@pytest.mark.parametrize("height", [40, 63])
def test_still_is_what_it_is_on_the_host(height):
    rng, scene = np.random.default_rng(0), texture(height, 90)
    patched = scene.copy()
    patched[8:20, 8:20] = 255 - patched[8:20, 8:20]
    others = [scene, noisy(scene, rng), noisy(scene, rng, 8.0), patched, texture(height, 90, 1)]
    others.append(np.clip(scene.astype(int) + 4, 0, 255).astype(np.uint8))
    pairs = [(scene, other) for other in others]
    found = motion.show_the_same(*batch(pairs)[:2])
    assert found.tolist() == [luma.show_the_same(*pair) for pair in pairs]
    assert found.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("shape", [(40, 60), (41, 59)])
def test_exposure_is_taken_out_as_on_the_host(shape):
    scene = texture(*shape)
    for step in (-30, -1, 0, 1, 17):
        brighter = np.clip(scene.astype(int) + step, 0, 255).astype(np.uint8)
        expected = estimators._exposed_as(brighter, scene)
        now, before = (torch.from_numpy(each)[None].float() for each in (brighter, scene))
        assert np.array_equal(motion._exposed_as(now, before)[0].numpy(), expected)
