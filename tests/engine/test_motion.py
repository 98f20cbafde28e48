"""Flow, occlusion and the grids they are put on."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilestream.engine.motion.estimators import (
    MAX_THUMBNAIL_SIDE,
    DisMotion,
    Motion,
    NoMotion,
    thumbnail,
    thumbnail_scale,
    warp,
)
from tilestream_street import SyntheticStreet


def texture(height, width, seed=0):
    """uint8 [height, width] with detail at several sizes."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), s) * s for s in (1.5, 4, 10)]
    total = sum(layers)
    return np.clip(128 + 50 * total / total.std(), 0, 255).astype(np.uint8)


def moved_pair(dx, dy, height=120, width=160, seed=0):
    """(previous, current): what is at (x, y) of the current one was at (x + dx, y + dy)."""
    wide = texture(height + 40, width + 40, seed)
    previous = wide[20 : 20 + height, 20 : 20 + width]
    current = wide[20 + dy : 20 + dy + height, 20 + dx : 20 + dx + width]
    return np.ascontiguousarray(previous), np.ascontiguousarray(current)


def test_a_search_that_begins_with_the_motion_finds_it_where_one_from_rest_does_not():
    previous, current = moved_pair(17, 3, seed=4)
    expected = np.empty((*current.shape, 2), dtype=np.float32)
    expected[...] = 16, 3
    kept = expected.copy()
    motions = [DisMotion().estimate(previous, current, 2, begin) for begin in (None, expected)]
    errors = [np.median(np.hypot(*np.moveaxis(motion.flow - (17, 3), 2, 0))) for motion in motions]
    assert errors[1] < 0.3
    assert errors[1] <= errors[0] + 0.05
    assert np.array_equal(expected, kept)


def test_a_search_recovers_from_a_wrong_beginning():
    previous, current = moved_pair(-4, 1, seed=5)
    wrong = np.full((*current.shape, 2), 12, dtype=np.float32)
    motion = DisMotion().estimate(previous, current, 2, wrong)
    assert np.median(np.hypot(*np.moveaxis(motion.flow - (-4, 1), 2, 0))) < 0.5


def test_a_search_leaves_nothing_behind_for_the_next_one():
    pair, other = moved_pair(3, 1, seed=6), moved_pair(-5, 2, seed=7)
    shape = pair[0].shape
    for expected in (None, random_flow(*shape, seed=1)):
        alone = DisMotion().estimate(*pair, 2, expected).flow
        for before in (None, random_flow(*shape, seed=2)):
            estimator = DisMotion()
            estimator.estimate(*other, 2, before)
            assert np.array_equal(estimator.estimate(*pair, 2, expected).flow, alone)


def motion_of(flow, scale=2):
    flow = np.asarray(flow, dtype=np.float32)
    return Motion(flow, np.zeros(flow.shape[:2], dtype=np.bool_), scale)


def random_flow(height, width, seed=0):
    return np.random.default_rng(seed).normal(0, 4, (height, width, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def street():
    return list(SyntheticStreet(3, 320, 240).frames(3, start=20))


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 3))
@settings(max_examples=30)
def test_equal_thumbnails_have_no_motion_at_any_size(height, width, seed):
    luma = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    for estimator in (DisMotion(), NoMotion()):
        motion = estimator.estimate(luma, luma.copy(), 2)
        assert motion.flow.shape == (height, width, 2) and motion.flow.dtype == np.float32
        assert not motion.flow.any() and not motion.occluded.any()
        assert motion.scale == 2


@given(st.integers(1, 40), st.integers(1, 400), st.booleans(), st.integers(0, 3))
@settings(max_examples=30)
def test_small_and_elongated_thumbnails_work(short, long, upright, seed):
    shape = (long, short) if upright else (short, long)
    rng = np.random.default_rng(seed)
    previous, current = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    motion = DisMotion().estimate(previous, current, 1)
    assert motion.flow.shape == (*shape, 2) and motion.occluded.shape == shape
    assert np.isfinite(motion.flow).all()
    if min(shape) < 16:
        assert not motion.flow.any()


@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 5))
@settings(max_examples=20)
def test_a_translation_is_found(dx, dy, seed):
    motion = DisMotion().estimate(*moved_pair(dx, dy, seed=seed), 2)
    error = np.linalg.norm(motion.flow - np.float32([dx, dy]), axis=2)[16:-16, 16:-16]
    assert np.median(error) < 0.25
    assert np.mean(error < 0.5) > 0.97


@pytest.mark.parametrize("finest_scale", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 300), (16, 300), (31, 90), (32, 90), (63, 200), (300, 64)])
def test_no_pyramid_is_too_deep_for_a_small_thumbnail(finest_scale, shape):
    previous, current = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    motion = DisMotion(finest_scale=finest_scale).estimate(previous, current, 1)
    assert motion.flow.shape == (*shape, 2) and np.isfinite(motion.flow).all()


@pytest.mark.parametrize("patch_means", [False, True])
@pytest.mark.parametrize("step", [-25, 25])
def test_a_change_of_exposure_is_no_motion(step, patch_means):
    previous, current = moved_pair(3, -2)
    current = np.clip(current.astype(int) + step, 0, 255).astype(np.uint8)
    motion = DisMotion(patch_means=patch_means).estimate(previous, current, 2)
    error = np.linalg.norm(motion.flow - np.float32([3, -2]), axis=2)[16:-16, 16:-16]
    assert np.median(error) < 0.25
    assert np.mean(error < 0.5) > 0.95


@given(st.integers(0, 5), st.integers(8, 60), st.integers(8, 60))
@settings(max_examples=40)
def test_noise_is_no_motion(seed, height, width):
    rng = np.random.default_rng(seed)
    scene = texture(height, width, seed)
    pair = [np.clip(scene + rng.normal(0, 1.3, scene.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    motion = DisMotion().estimate(*pair, 2)
    assert motion.still and not motion.flow.any() and not motion.occluded.any()


def test_a_small_thing_that_moves_is_not_noise():
    previous, current = (np.full((120, 160), 90, dtype=np.uint8) for _ in range(2))
    previous[50:54, 60:64] = current[50:54, 63:67] = 150
    motion = DisMotion().estimate(previous, current, 2)
    assert not motion.still and motion.flow.any()


def test_the_residual_is_what_the_flow_leaves():
    previous, current = moved_pair(4, 1)
    current[40:80, 60:100] = 255 - current[40:80, 60:100]
    motion = DisMotion().estimate(previous, current, 2)
    assert np.array_equal(motion.residual, cv2.absdiff(current, warp(previous, motion)))


def test_one_estimator_serves_changing_sizes():
    estimator = DisMotion()
    pair = moved_pair(3, -2)
    expected = DisMotion().estimate(*pair, 2)
    for shape in ((17, 20), (40, 33), (120, 160)):
        rng = np.random.default_rng(0)
        estimator.estimate(*rng.integers(0, 256, (2, *shape), dtype=np.uint8), 2)
        assert np.array_equal(estimator.estimate(*pair, 2).flow, expected.flow)


@pytest.mark.parametrize("estimator", [DisMotion(), NoMotion()])
def test_thumbnails_of_different_sizes_are_refused(estimator):
    with pytest.raises(ValueError, match="one size"):
        estimator.estimate(np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), 1)


def test_what_appears_is_occluded():
    previous, current = moved_pair(4, 0)
    current[40:80, 60:100] = texture(40, 40, seed=9) // 4
    occluded = DisMotion().estimate(previous, current, 2).occluded
    assert occluded[45:75, 65:95].mean() > 0.6
    assert occluded[:30, 16:-16].mean() < 0.02


def test_what_comes_in_from_outside_is_occluded():
    # the picture moves 6 pixels to the left, so its right edge is new
    occluded = DisMotion().estimate(*moved_pair(6, 0), 2).occluded
    assert occluded[:, -3:].mean() > 0.5
    assert occluded[:, :-16].mean() < 0.02


def test_on_a_street_flow_beats_no_flow(street):
    errors, still, recall, share = [], [], [], []
    for before, frame in pairwise(street):
        scale = thumbnail_scale(*frame.labels.shape)
        motion = DisMotion().estimate(thumbnail(before.image, scale), thumbnail(frame.image, scale), scale)
        flow = motion.at_stride(1, *frame.labels.shape)
        seen = frame.visible
        errors.append(np.linalg.norm(flow - frame.motion, axis=2)[seen].mean())
        still.append(np.linalg.norm(frame.motion, axis=2)[seen].mean())
        hidden = ~cv2.resize(frame.visible.astype(np.uint8), motion.occluded.shape[::-1]).astype(bool)
        recall.append(motion.occluded[hidden].mean())
        share.append(motion.occluded[~hidden].mean())
    assert np.mean(errors) < 0.4 * np.mean(still)
    assert np.mean(recall) > 3 * np.mean(share)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 4]))
def test_at_stride_of_one_motion_is_that_motion(height, width, stride, scale):
    motion = motion_of(np.full((height, width, 2), [3.0, -1.5]), scale)
    rows, columns = -(-height * scale // stride) + 1, -(-width * scale // stride) + 2
    moved = motion.at_stride(stride, rows, columns)
    assert moved.shape == (rows, columns, 2) and moved.dtype == np.float32
    assert np.allclose(moved, np.array([3.0, -1.5]) * scale / stride, atol=1e-5)


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 8]))
def test_at_stride_averages_cells(rows, columns, scale, factor):
    flow = random_flow(rows * factor, columns * factor)
    moved = motion_of(flow, scale).at_stride(scale * factor, rows, columns)
    expected = flow.reshape(rows, factor, columns, factor, 2).mean(axis=(1, 3)) / factor
    assert np.allclose(moved, expected, atol=1e-5)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5), st.integers(0, 5))
def test_at_stride_goes_on_beyond_the_thumbnail(height, width, down, right):
    flow = random_flow(height, width)
    moved = motion_of(flow, 4).at_stride(4, height + down, width + right)
    expected = np.pad(flow, ((0, down), (0, right), (0, 0)), mode="edge")
    assert np.array_equal(moved, expected)


def test_at_stride_is_linear_between_pixels_of_a_coarse_thumbnail():
    ramp = np.zeros((6, 8, 2), dtype=np.float32)
    ramp[..., 0] = np.arange(8)
    fine = motion_of(ramp, 4).at_stride(2, 12, 16)
    # pixel x of the thumbnail has its centre between fine pixels 2 x and 2 x + 1; values double
    expected = 2 * np.clip((np.arange(16) - 0.5) / 2, 0, 7)
    assert np.allclose(fine[..., 0], expected, atol=1e-5)
    assert not fine[..., 1].any()


def test_at_stride_does_not_hand_out_the_flow_itself():
    motion = motion_of(random_flow(4, 4), 4)
    motion.at_stride(4, 4, 4)[...] = 0
    assert motion.flow.any()


def test_at_stride_refuses_grids_that_do_not_meet():
    with pytest.raises(ValueError, match="multiple"):
        motion_of(random_flow(4, 4), 2).at_stride(3, 4, 4)


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(360, 480, 2), (720, 960, 4), (720, 1280, 4), (1280, 720, 4), (240, 320, 1), (241, 321, 2), (1, 1, 1)],
)
def test_thumbnail_scale(height, width, scale):
    assert thumbnail_scale(height, width) == scale


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_thumbnails_are_small_but_not_too_small(height, width):
    scale = thumbnail_scale(height, width)
    longer = max(height, width)
    assert scale & (scale - 1) == 0
    assert longer <= MAX_THUMBNAIL_SIDE * scale
    assert scale == 1 or longer > MAX_THUMBNAIL_SIDE * scale // 2


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), st.integers(0, 3))
def test_thumbnail_averages_luma(height, width, scale, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = thumbnail(image, scale)
    assert small.dtype == np.uint8
    assert small.shape == (-(-height // scale), -(-width // scale))
    luma = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    padded = np.pad(luma, ((0, -height % scale), (0, -width % scale)), mode="edge")
    expected = padded.reshape(small.shape[0], scale, small.shape[1], scale).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 1.01


def test_warp_fetches_what_was_there():
    previous, current = moved_pair(5, -3)
    motion = motion_of(np.full((120, 160, 2), [5.0, -3.0]))
    moved = warp(previous, motion)
    assert moved.dtype == np.uint8
    assert np.array_equal(moved[3:, :-5], current[3:, :-5])
    # what lies outside has the value of the border
    assert np.array_equal(moved[3:, -5:], np.repeat(previous[:-3, -1:], 5, axis=1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [None, 2])
def test_warp_without_motion_changes_no_bit(dtype, channels):
    shape = (33, 47) if channels is None else (33, 47, channels)
    previous = (np.random.default_rng(0).random(shape) * 255).astype(dtype)
    moved = warp(previous, motion_of(np.zeros((33, 47, 2))))
    assert moved.dtype == dtype and np.array_equal(moved, previous)


def test_warp_can_take_the_nearest_value():
    labels = np.array([[0, 10], [20, 30]], dtype=np.uint8)
    motion = motion_of(np.full((2, 2, 2), [0.4, 0.0]))
    assert np.array_equal(warp(labels, motion, cv2.INTER_NEAREST), labels)
    assert not np.array_equal(warp(labels, motion), labels)
