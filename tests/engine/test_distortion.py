"""What a bin is known to be before it is computed."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.batches import arrays, batch, equal, estimate, joined, motion_of
from support.textures import moved_pair, noisy, texture
from tilestream.engine.motion.distortion import NOISE_FLOOR, OCCLUDED_AGE, STRONG_RESIDUAL, DistortionTracker
from tilestream.engine.motion.estimators import DisMotion, NoMotion
from tilestream.engine.motion.luma import thumbnails
from tilestream.engine.motion.warp import warp
from tilestream_street import SyntheticStreet

ARRAYS = ("distortion", "current", "peak", "age", "motion", "occluded")
GREY = np.full((64, 96), 100, dtype=np.uint8)  # 4 x 6 bins of 32 pixels at scale 2


class Camera:
    """One session, which sees thumbnails one by one."""

    def __init__(self, bin_size=32, bins=(4, 6), scale=2, shape=GREY.shape):
        self.tracker = DistortionTracker(bin_size, bins, scale, shape)
        self.state = self.tracker.start()
        self.fine = None

    def advance(self, previous, current, motion):
        """The bins' signals as arrays."""
        found = self.tracker.advance([self.state], batch(previous), batch(current), motion)
        self.state, self.fine = found.state[0], found.fine[0]
        return arrays(found.signals)

    def computed(self, keep):
        self.tracker.computed(self.state, keep)

    def start(self):
        self.state = self.tracker.start()


def still(luma, scale=2):
    return motion_of(np.zeros((*luma.shape, 2)), scale=scale)


def brighter(luma, rows, columns, by):
    changed = luma.copy()
    changed[rows, columns] += np.uint8(by)
    return changed


@pytest.fixture(scope="module")
def streets():
    """Two different streets, five luma thumbnails each."""
    drives = [SyntheticStreet(s, 240, 180).frames(5, start=20) for s in (3, 4)]
    return [list(thumbnails(batch(*(f.image for f in frames)), 1).numpy()) for frames in drives]


def test_a_still_scene_only_grows_older():
    camera = Camera()
    for age in (1, 2, 3):
        signals = camera.advance(GREY, GREY, still(GREY))
        assert np.array_equal(signals.age, np.full((4, 6), age))
        for name in ("distortion", "current", "peak", "motion", "occluded"):
            assert not getattr(signals, name).any()
        assert not signals.scene_cut


def test_a_frame_that_shows_the_same_adds_age_only():
    camera = Camera()
    moved = motion_of(np.full((64, 96, 2), 2.0))
    before = camera.advance(GREY, brighter(GREY, slice(0, 16), slice(16, 48), 40), moved)
    shown = motion_of(np.zeros((64, 96, 2)))
    after = camera.advance(GREY, GREY, replace(shown, still=torch.tensor([True])))
    assert np.array_equal(after.distortion, before.distortion) and before.distortion.any()
    assert np.array_equal(after.peak, before.peak)
    assert np.allclose(after.age, before.age + 1)
    assert not after.current.any() and not after.motion.any() and not after.scene_cut
    assert camera.fine[..., 0].mean().item() == pytest.approx(before.distortion.mean(), rel=1e-5)


def test_a_residual_that_is_known_is_not_found_again():
    current = brighter(GREY, slice(20, 40), slice(8, 50), 30)
    motion = motion_of(np.random.default_rng(0).normal(0, 2, (64, 96, 2)))
    expected = Camera().advance(GREY, current, motion)
    left = cv2.absdiff(current, warp(batch(GREY), motion.flow)[0].numpy())
    found = Camera().advance(GREY, current, replace(motion, residual=batch(left)))
    assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in ARRAYS)


def test_arrays_are_float32_of_the_bins():
    signals = Camera().advance(GREY, GREY, still(GREY))
    for name in ARRAYS:
        assert getattr(signals, name).shape == (4, 6)
        assert getattr(signals, name).dtype == np.float32


def test_a_change_counts_in_its_bin_only():
    changed = brighter(GREY, slice(16, 32), slice(32, 48), 13)  # bin (1, 2), all of it
    signals = Camera().advance(GREY, changed, still(GREY))
    expected = np.zeros((4, 6))
    expected[1, 2] = 13 - NOISE_FLOOR
    for name in ("distortion", "current", "peak"):
        assert np.allclose(getattr(signals, name), expected)


def test_the_peak_sees_what_the_mean_does_not():
    changed = brighter(GREY, slice(16, 20), slice(32, 36), 35)  # a sixteenth of bin (1, 2)
    signals = Camera().advance(GREY, changed, still(GREY))
    assert signals.peak[1, 2] == pytest.approx(35 - NOISE_FLOOR)
    assert signals.distortion[1, 2] == pytest.approx((35 - NOISE_FLOOR) / 16)


def test_distortion_is_what_the_frames_have_added():
    camera = Camera()
    frames = [brighter(GREY, slice(0, 16), slice(0, 16), by) for by in (0, 10, 25, 25)]
    sums = [camera.advance(a, b, still(GREY)) for a, b in pairwise(frames)]
    assert [s.current[0, 0] for s in sums] == pytest.approx([10 - NOISE_FLOOR, 15 - NOISE_FLOOR, 0])
    assert [s.distortion[0, 0] for s in sums] == pytest.approx(
        [10 - NOISE_FLOOR, 25 - 2 * NOISE_FLOOR, 25 - 2 * NOISE_FLOOR]
    )


def test_computed_bins_are_fresh_and_others_are_not():
    camera = Camera()
    changed = brighter(GREY, slice(None), slice(None), 13)
    camera.advance(GREY, changed, still(GREY))
    keep = np.random.default_rng(0).random((4, 6)) < 0.4
    camera.computed(keep)
    signals = camera.advance(changed, changed, still(GREY))
    assert np.allclose(signals.distortion, np.where(keep, 0, 13 - NOISE_FLOOR))
    assert np.allclose(signals.age, np.where(keep, 1, 2))


def test_start_makes_everything_fresh():
    camera = Camera()
    changed = brighter(GREY, slice(None), slice(None), 13)
    camera.advance(GREY, changed, still(GREY))
    camera.start()
    signals = camera.advance(changed, changed, still(GREY))
    assert not signals.distortion.any()
    assert np.array_equal(signals.age, np.ones((4, 6)))


def test_state_travels_along_the_motion():
    camera = Camera()
    changed = brighter(GREY, slice(16, 32), slice(32, 48), 13)
    camera.advance(GREY, changed, still(GREY))
    fresh = np.zeros((4, 6), dtype=np.bool_)
    fresh[1, 2] = True
    camera.computed(fresh)
    # everything goes one bin to the right
    flow = np.zeros((64, 96, 2))
    flow[..., 0] = -16
    moved = np.roll(changed, 16, axis=1)
    signals = camera.advance(changed, moved, motion_of(flow))
    assert signals.age[1, 3] == pytest.approx(1) and signals.age[1, 2] == pytest.approx(2)
    assert np.allclose(signals.current, 0)
    assert np.allclose(signals.motion, 32)


def test_occluded_pixels_are_old_and_distorted_however_they_look():
    occluded = np.zeros(GREY.shape, dtype=np.bool_)
    occluded[0:16, 0:16] = True
    occluded[0:16, 16:24] = True
    signals = Camera().advance(GREY, GREY, motion_of(np.zeros((64, 96, 2)), occluded))
    assert signals.occluded[0, :3] == pytest.approx([1, 0.5, 0])
    assert signals.distortion[0, :3] == pytest.approx([STRONG_RESIDUAL, STRONG_RESIDUAL / 2, 0])
    assert signals.age[0, :3] == pytest.approx([OCCLUDED_AGE, (OCCLUDED_AGE + 1) / 2, 1])


def test_noise_does_not_age_a_still_scene():
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (96, 128), dtype=np.uint8), (0, 0), 4)
    scene = cv2.normalize(scene, None, 30, 220, cv2.NORM_MINMAX)
    frames = [noisy(scene, rng, 1.5) for _ in range(40)]
    camera, estimator = Camera(32, (6, 8), shape=scene.shape), DisMotion()
    for previous, current in pairwise(frames):
        signals = camera.advance(previous, current, estimate(estimator, previous, current, 2))
        assert not signals.scene_cut
    # 39 frames of it weigh less than a single frame of moderate change
    assert signals.distortion.max() < 5


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([8, 16, 24, 32]),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 3),
)
@settings(max_examples=50)
def test_means_are_over_what_the_frame_covers(height, width, bin_size, scale, seed):
    rng = np.random.default_rng(seed)
    # pairs of equal pixels in both directions, so that cells do not cross a bin's edge unevenly
    height, width = 2 * height, 2 * width
    pixels = rng.integers(0, 256, (2, height, width), dtype=np.uint8)
    bins = (-(-height * scale // bin_size), -(-width * scale // bin_size))
    flat = np.zeros((height, width), dtype=np.uint8)
    signals = Camera(bin_size, bins, scale, flat.shape).advance(
        flat, np.full_like(flat, 23), still(flat, scale)
    )
    assert np.allclose(signals.distortion, 23 - NOISE_FLOOR, atol=1e-3)
    assert np.allclose(signals.age, 1, atol=1e-5)
    signals = Camera(bin_size, bins, scale, flat.shape).advance(*pixels, still(flat, scale))
    assert all(np.isfinite(getattr(signals, name)).all() for name in ARRAYS)
    assert (signals.peak >= signals.distortion - 1e-3).all()
    assert (signals.distortion >= 0).all() and (signals.distortion <= 255).all()
    if bin_size // scale >= 4:
        cells = np.abs(pixels[0].astype(float) - pixels[1])
        cells = cells.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        side = bin_size // scale // 2
        first = np.maximum(cells[:side, :side] - NOISE_FLOOR, 0).mean()
        assert signals.distortion[0, 0] == pytest.approx(first, abs=1e-2)


def test_bins_beyond_the_frame_have_nothing_to_compute():
    signals = Camera(32, (6, 8)).advance(GREY, brighter(GREY, slice(None), slice(None), 20), still(GREY))
    assert (signals.distortion[:4, :6] > 0).all()
    for name in ARRAYS:
        assert not getattr(signals, name)[4:].any() and not getattr(signals, name)[:, 6:].any()


def street_camera():
    return Camera(64, (3, 4), 1, (180, 240))


def test_a_moving_street_has_no_cut_and_two_streets_have_one(streets):
    for street in streets:
        camera, estimator = street_camera(), DisMotion()
        for previous, current in pairwise(street):
            motion = estimate(estimator, previous, current, 1)
            assert not camera.advance(previous, current, motion).scene_cut
    for previous, current in ((streets[0][-1], streets[1][0]), (streets[1][2], streets[0][2])):
        for estimator in (DisMotion(), NoMotion()):
            motion = estimate(estimator, previous, current, 1)
            assert street_camera().advance(previous, current, motion).scene_cut


def test_a_cut_in_the_dark_is_a_cut(streets):
    dark = [[(luma * 0.3).astype(np.uint8) for luma in street] for street in streets]
    estimator = DisMotion()
    within = estimate(estimator, dark[0][0], dark[0][1], 1)
    across = estimate(estimator, dark[0][0], dark[1][0], 1)
    assert not street_camera().advance(dark[0][0], dark[0][1], within).scene_cut
    assert street_camera().advance(dark[0][0], dark[1][0], across).scene_cut


def test_motion_compensation_lowers_the_distortion_of_a_street(streets):
    previous, current = streets[0][:2]
    moved, unmoved = (
        street_camera().advance(previous, current, estimate(estimator, previous, current, 1))
        for estimator in (DisMotion(), NoMotion())
    )
    assert moved.distortion.mean() < 0.6 * unmoved.distortion.mean()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        Camera(bin_size=30, scale=4)
    with pytest.raises(ValueError, match="do not fit"):
        Camera(bins=(3, 6))
    with pytest.raises(ValueError, match="match"):
        Camera().advance(GREY, GREY[:-1], still(GREY))
    with pytest.raises(ValueError, match="scale 4"):
        Camera().advance(GREY, GREY, still(GREY, scale=4))
    camera = Camera()
    camera.advance(GREY, GREY, still(GREY))
    with pytest.raises(ValueError, match="were"):
        camera.advance(GREY[:-2], GREY[:-2], still(GREY[:-2]))
    with pytest.raises(ValueError, match="mask"):
        camera.computed(np.zeros((3, 6), dtype=np.bool_))


# Batches


def steps_of(kind, seed, shape):
    """Three thumbnails of a session, to which something happens at the last one."""
    rng = np.random.default_rng(seed)
    first, second = moved_pair(*rng.integers(1, 4, 2), *shape, seed)
    last = {
        "still": lambda: noisy(second, rng),
        "cut": lambda: 255 - texture(*shape, seed + 50),
        "moved": lambda: np.roll(second, 3, axis=1),
    }[kind]
    return first, second, last()


@given(
    st.lists(
        st.tuples(st.sampled_from(["still", "cut", "moved"]), st.integers(0, 20)), min_size=1, max_size=6
    ),
    st.sampled_from([((50, 70), 32, 2), ((33, 47), 16, 1), ((40, 64), 20, 4)]),
    st.booleans(),
)
@settings(max_examples=30)
def test_a_frame_s_signals_do_not_depend_on_who_comes_with_it(kinds, size, known):
    """The last size has cells of one pixel, the one before bins beyond the edge."""
    shape, bin_size, scale = size
    bins = tuple(-(-side * scale // bin_size) for side in shape)
    tracker = DistortionTracker(bin_size, bins, scale, shape)
    clips = [steps_of(kind, seed, shape) for kind, seed in kinds]
    motions = [[estimate(DisMotion(), *pair, scale) for pair in pairwise(clip)] for clip in clips]
    if not known:
        motions = [[replace(motion, residual=None) for motion in clip] for clip in motions]
    states = [tracker.start() for _ in clips]
    for step in range(2):
        previous, current = (batch(*(clip[step + i] for clip in clips)) for i in (0, 1))
        motion, given_states = joined([clip[step] for clip in motions]), [s.clone() for s in states]
        found = tracker.advance(states, previous, current, motion)
        assert all(map(torch.equal, states, given_states))
        assert equal(found, tracker.advance(torch.stack(states), previous, current, motion))
        for index, state in enumerate(states):
            one = slice(index, index + 1)
            alone = tracker.advance([state], previous[one], current[one], motions[index][step])
            assert equal(found.of([index]), alone) and equal(found.of(one), alone)
        states = list(found.state)
    assert found.signals.scene_cut.tolist() == [kind == "cut" for kind, _ in kinds]
    assert motion.is_still() == [kind == "still" for kind, _ in kinds]
