"""Random views: sizes, labels that stay labels and stay on their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilestream_training.augment import AugmentOptions, augment
from tilestream_training.datasets.base import IGNORE_LABEL, Sample


def blocks(height: int, width: int, size: int = 16, classes: int = 6) -> Sample:
    """Squares of one class each; the image shows the class as gray, 20 apart."""
    rows, columns = np.arange(height) // size, np.arange(width) // size
    labels = ((rows[:, None] * 5 + columns[None, :] * 3) % classes).astype(np.uint8)
    return Sample(np.repeat(labels[..., None] * 20 + 10, 3, axis=2).astype(np.uint8), labels, "blocks")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    crop=st.tuples(st.integers(8, 96), st.integers(8, 96)),
    size=st.tuples(st.integers(16, 128), st.integers(16, 128)),
    zoom=st.tuples(st.floats(0.3, 1.0), st.floats(1.0, 3.0)),
    jitter=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_view_has_the_crops_size_and_known_labels(seed, crop, size, zoom, jitter) -> None:
    sample = blocks(*size)
    before = sample.image.copy(), sample.labels.copy()
    options = AugmentOptions(crop=crop, scale=zoom, jitter=jitter)
    image, labels = augment(sample, options, np.random.default_rng(seed))
    assert image.shape == (*crop, 3) and image.dtype == np.uint8
    assert labels.shape == crop and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {*np.unique(sample.labels), IGNORE_LABEL}
    assert np.array_equal(sample.image, before[0]) and np.array_equal(sample.labels, before[1])
    again = augment(sample, options, np.random.default_rng(seed))
    assert np.array_equal(image, again[0]) and np.array_equal(labels, again[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_image_and_labels_move_together(seed) -> None:
    """Inside a square of one class, the gray is that of the class, whatever the zoom and the flip."""
    options = AugmentOptions(crop=(64, 80), scale=(0.8, 2.0), jitter=0.0)
    image, labels = augment(blocks(96, 128), options, np.random.default_rng(seed))
    inside = labels != IGNORE_LABEL
    for dy in (-2, 0, 2):
        for dx in (-2, 0, 2):
            inside &= np.roll(labels, (dy, dx), axis=(0, 1)) == labels
    inside[:2] = inside[-2:] = False
    inside[:, :2] = inside[:, -2:] = False
    assert inside.mean() > 0.2
    assert np.array_equal(image[inside][:, 0], labels[inside] * 20 + 10)


def test_beyond_the_still_is_black_and_ignored() -> None:
    sample = Sample(np.full((40, 40, 3), 200, np.uint8), np.full((40, 40), 3, np.uint8), "small")
    options = AugmentOptions(crop=(120, 120), scale=(1.0, 1.0), jitter=0.0)
    image, labels = augment(sample, options, np.random.default_rng(0))
    inside = labels == 3
    assert 0.08 < inside.mean() < 0.15  # 40 of 120 pixels each way, give or take the stretch
    assert (labels[~inside] == IGNORE_LABEL).all()
    assert (image[inside] == 200).mean() > 0.9
    assert (image[~inside] == 0).mean() > 0.9


def test_about_half_of_the_views_are_flipped() -> None:
    labels = np.tile(np.arange(100, dtype=np.uint8)[None], (50, 1))
    sample = Sample(np.zeros((50, 100, 3), np.uint8), labels, "ramp")
    options = AugmentOptions(crop=(20, 20), scale=(1.0, 1.0), jitter=0.0)
    views = [augment(sample, options, np.random.default_rng(seed))[1] for seed in range(100)]
    flipped = sum(int(view[10, 0]) > int(view[10, -1]) for view in views)
    assert 30 <= flipped <= 70


@pytest.mark.parametrize("seed", range(5))
def test_jitter_changes_colours_but_not_labels(seed) -> None:
    sample = blocks(64, 64)
    plain = augment(sample, AugmentOptions(crop=(48, 48), jitter=0.0), np.random.default_rng(seed))
    bright = augment(sample, AugmentOptions(crop=(48, 48), jitter=1.0), np.random.default_rng(seed))
    assert np.array_equal(plain[1], bright[1])
    assert not np.array_equal(plain[0], bright[0])
