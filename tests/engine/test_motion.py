"""Flow and occlusion: what is found, and that nobody's motion depends on another's."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.batches import batch, equal, estimate, only
from support.textures import moved_pair, noisy, texture
from tilestream.engine.motion.estimators import DisMotion, NoMotion
from tilestream.engine.motion.luma import thumbnail_scale, thumbnails
from tilestream.engine.motion.warp import warp
from tilestream_street import SyntheticStreet


def error_of(motion, dx, dy):
    """By how many pixels a frame's flow is off, float [h, w]."""
    return np.linalg.norm(only(motion.flow) - np.float32([dx, dy]), axis=2)


def test_a_search_that_begins_with_the_motion_finds_it_where_one_from_rest_does_not():
    previous, current = moved_pair(17, 3, seed=4)
    expected = np.empty((*current.shape, 2), dtype=np.float32)
    expected[...] = 16, 3
    motions = [estimate(DisMotion(), previous, current, 2, begin) for begin in (None, expected)]
    errors = [np.median(error_of(motion, 17, 3)) for motion in motions]
    assert errors[1] < 0.3
    assert errors[1] <= errors[0] + 0.05


def test_what_is_given_to_an_estimator_stays_as_it_is():
    (previous, current), scene = moved_pair(17, 3, seed=4), texture(120, 160)
    given = (batch(previous, scene), batch(current, scene), torch.full((2, 120, 160, 2), 2.0))
    kept = [each.clone() for each in given]
    for estimator in (DisMotion(), NoMotion()):
        estimator.estimate(*given, 2)
        assert all(torch.equal(now, before) for now, before in zip(given, kept, strict=True))


def test_a_search_recovers_from_a_wrong_beginning():
    previous, current = moved_pair(-4, 1, seed=5)
    wrong = np.full((*current.shape, 2), 12, dtype=np.float32)
    motion = estimate(DisMotion(), previous, current, 2, wrong)
    assert np.median(error_of(motion, -4, 1)) < 0.5


def test_a_search_leaves_nothing_behind_for_the_next_one():
    pair, other = moved_pair(3, 1, seed=6), moved_pair(-5, 2, seed=7)
    shape = pair[0].shape
    for expected in (None, random_flow(*shape, seed=1)):
        alone = estimate(DisMotion(), *pair, 2, expected).flow
        for before in (None, random_flow(*shape, seed=2)):
            estimator = DisMotion()
            estimate(estimator, *other, 2, before)
            assert torch.equal(estimate(estimator, *pair, 2, expected).flow, alone)


def random_flow(height, width, seed=0):
    return np.random.default_rng(seed).normal(0, 4, (height, width, 2)).astype(np.float32)


ESTIMATORS = {
    "dis": DisMotion,
    "dis for bins": lambda: DisMotion(patch_stride=4, patch_means=True),
    "none": NoMotion,
}
PAIRS = ("moved", "brighter", "noise", "equal", "unlike", "dark")


def pair_of(kind, seed, height, width):
    """Two thumbnails between which something has happened."""
    rng = np.random.default_rng(seed)
    previous, current = moved_pair(*rng.integers(2, 7, 2), height, width, seed)
    match kind:
        case "brighter":
            current = cv2.add(current, 25.0)
        case "noise":
            previous, current = noisy(previous, rng), noisy(previous, rng)
        case "equal":
            current = previous.copy()
        case "unlike":
            current = texture(height, width, seed + 100)
        case "dark":
            current = current // 5
    return previous, current


@pytest.mark.parametrize("name", ESTIMATORS)
@given(
    st.lists(st.tuples(st.sampled_from(PAIRS), st.integers(0, 9), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([(40, 56), (12, 60), (16, 16)]),
)
@settings(max_examples=30)
def test_a_frame_s_motion_does_not_depend_on_who_comes_with_it(name, kinds, shape):
    pairs = [pair_of(kind, seed, *shape) for kind, seed, _ in kinds]
    expected = [random_flow(*shape, seed) * known for _, seed, known in kinds]
    previous, current = (batch(*each) for each in zip(*pairs, strict=True))
    found = ESTIMATORS[name]().estimate(previous, current, batch(*expected), 2)
    assert found.flow.dtype == torch.float32 and found.occluded.dtype == torch.bool
    for index, pair in enumerate(pairs):
        alone = estimate(ESTIMATORS[name](), *pair, 2, expected[index])
        assert equal(found.of([index]), alone) and equal(found.of(slice(index, index + 1)), alone)
    still = [kind in ("noise", "equal") for kind, *_ in kinds]
    assert found.is_still() == (still if name != "none" else [False] * len(kinds))


@pytest.fixture(scope="module")
def street():
    return list(SyntheticStreet(3, 320, 240).frames(3, start=20))


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 3))
@settings(max_examples=30)
def test_equal_thumbnails_have_no_motion_at_any_size(height, width, seed):
    luma = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    for estimator in (DisMotion(), NoMotion()):
        motion = estimate(estimator, luma, luma.copy(), 2)
        assert motion.flow.shape == (1, height, width, 2) and motion.flow.dtype == torch.float32
        assert not motion.flow.any() and not motion.occluded.any()
        assert motion.scale == 2


@given(st.integers(1, 40), st.integers(1, 400), st.booleans(), st.integers(0, 3))
@settings(max_examples=30)
def test_small_and_elongated_thumbnails_work(short, long, upright, seed):
    shape = (long, short) if upright else (short, long)
    rng = np.random.default_rng(seed)
    previous, current = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    motion = estimate(DisMotion(), previous, current, 1)
    assert motion.flow.shape == (1, *shape, 2) and motion.occluded.shape == (1, *shape)
    assert np.isfinite(motion.flow.numpy()).all()
    if min(shape) < 16:
        assert not motion.flow.any()


@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 5))
@settings(max_examples=20)
def test_a_translation_is_found(dx, dy, seed):
    motion = estimate(DisMotion(), *moved_pair(dx, dy, seed=seed), 2)
    error = error_of(motion, dx, dy)[16:-16, 16:-16]
    assert np.median(error) < 0.25
    assert np.mean(error < 0.5) > 0.97


@pytest.mark.parametrize("finest_scale", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 300), (16, 300), (31, 90), (32, 90), (63, 200), (300, 64)])
def test_no_pyramid_is_too_deep_for_a_small_thumbnail(finest_scale, shape):
    previous, current = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    motion = estimate(DisMotion(finest_scale=finest_scale), previous, current, 1)
    assert motion.flow.shape == (1, *shape, 2) and np.isfinite(motion.flow.numpy()).all()


@pytest.mark.parametrize("patch_means", [False, True])
@pytest.mark.parametrize("step", [-25, 25])
def test_a_change_of_exposure_is_no_motion(step, patch_means):
    previous, current = moved_pair(3, -2)
    current = np.clip(current.astype(int) + step, 0, 255).astype(np.uint8)
    motion = estimate(DisMotion(patch_means=patch_means), previous, current, 2)
    error = error_of(motion, 3, -2)[16:-16, 16:-16]
    assert np.median(error) < 0.25
    assert np.mean(error < 0.5) > 0.95


@given(st.integers(0, 5), st.integers(8, 60), st.integers(8, 60))
@settings(max_examples=40)
def test_noise_is_no_motion(seed, height, width):
    rng = np.random.default_rng(seed)
    scene = texture(height, width, seed)
    motion = estimate(DisMotion(), noisy(scene, rng), noisy(scene, rng), 2)
    assert motion.is_still() == [True] and not motion.flow.any() and not motion.occluded.any()


def test_a_small_thing_that_moves_is_not_noise():
    previous, current = (np.full((120, 160), 90, dtype=np.uint8) for _ in range(2))
    previous[50:54, 60:64] = current[50:54, 63:67] = 150
    motion = estimate(DisMotion(), previous, current, 2)
    assert motion.is_still() == [False] and motion.flow.any()


@pytest.mark.parametrize("size", [(120, 160), (12, 160)])  # the second is too small for flow
def test_the_residual_is_what_the_flow_leaves(size):
    previous, current = moved_pair(4, 1, *size)
    current[4:80, 60:100] = 255 - current[4:80, 60:100]
    motion = estimate(DisMotion(), previous, current, 2)
    assert np.array_equal(
        only(motion.residual), cv2.absdiff(current, only(warp(batch(previous), motion.flow)))
    )


def test_one_estimator_serves_changing_sizes():
    estimator = DisMotion()
    pair = moved_pair(3, -2)
    expected = estimate(DisMotion(), *pair, 2)
    for shape in ((17, 20), (40, 33), (120, 160)):
        rng = np.random.default_rng(0)
        estimate(estimator, *rng.integers(0, 256, (2, *shape), dtype=np.uint8), 2)
        assert torch.equal(estimate(estimator, *pair, 2).flow, expected.flow)


@pytest.mark.parametrize("estimator", [DisMotion(), NoMotion()])
def test_thumbnails_of_different_sizes_are_refused(estimator):
    with pytest.raises(ValueError, match="one size"):
        estimate(estimator, np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), 1)
    one, nothing = torch.zeros((20, 20), dtype=torch.uint8), torch.zeros((20, 20, 2))
    with pytest.raises(ValueError, match=r"\[N, h, w\]"):
        estimator.estimate(one, one, nothing, 1)


def test_what_appears_is_occluded():
    previous, current = moved_pair(4, 0)
    current[40:80, 60:100] = texture(40, 40, seed=9) // 4
    occluded = only(estimate(DisMotion(), previous, current, 2).occluded)
    assert occluded[45:75, 65:95].mean() > 0.6
    assert occluded[:30, 16:-16].mean() < 0.02


def test_what_comes_in_from_outside_is_occluded():
    # the picture moves 6 pixels to the left, so its right edge is new
    occluded = only(estimate(DisMotion(), *moved_pair(6, 0), 2).occluded)
    assert occluded[:, -3:].mean() > 0.5
    assert occluded[:, :-16].mean() < 0.02


def test_on_a_street_flow_beats_no_flow(street):
    errors, still, recall, share = [], [], [], []
    for before, frame in pairwise(street):
        scale = thumbnail_scale(*frame.labels.shape)
        luma = thumbnails(batch(before.image, frame.image), scale).numpy()
        motion = estimate(DisMotion(), *luma, scale)
        flow, occluded = only(motion.at_stride(1, *frame.labels.shape)), only(motion.occluded)
        seen = frame.visible
        errors.append(np.linalg.norm(flow - frame.motion, axis=2)[seen].mean())
        still.append(np.linalg.norm(frame.motion, axis=2)[seen].mean())
        hidden = ~cv2.resize(frame.visible.astype(np.uint8), occluded.shape[::-1]).astype(bool)
        recall.append(occluded[hidden].mean())
        share.append(occluded[~hidden].mean())
    assert np.mean(errors) < 0.4 * np.mean(still)
    assert np.mean(recall) > 3 * np.mean(share)
