"""Thumbnails: how small they are, and what they are the mean of."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.batches import batch, only
from tilestream.engine.motion.luma import MAX_THUMBNAIL_SIDE, thumbnail_scale, thumbnails


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
    small = only(thumbnails(batch(image), scale))
    assert small.dtype == np.uint8
    assert small.shape == (-(-height // scale), -(-width // scale))
    luma = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    padded = np.pad(luma, ((0, -height % scale), (0, -width % scale)), mode="edge")
    expected = padded.reshape(small.shape[0], scale, small.shape[1], scale).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 1.01


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8]))
def test_every_image_of_a_batch_has_the_thumbnail_that_it_has_alone(count, height, width, scale):
    images = torch.from_numpy(
        np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    )
    found = thumbnails(images, scale)
    assert torch.equal(found, torch.cat([thumbnails(image[None], scale) for image in images]))
    assert torch.equal(found, thumbnails(list(images), scale))  # wherever they lie
