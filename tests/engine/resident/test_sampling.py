"""Lookups and grids of the device against those of the host."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilestream.engine.motion import warp
from tilestream.engine.resident import sampling


def random(*shape, seed=0, low=0.0, high=255.0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32))


def first(maps):
    """[N, C, h, w] from [N, h, w, C], or back."""
    return maps.permute(0, 3, 1, 2)


def last(maps):
    return maps.permute(0, 2, 3, 1).contiguous()


def test_maps_are_looked_up_as_on_the_host():
    maps, flow = random(2, 3, 20, 30), random(2, 2, 20, 30, seed=1, low=-9, high=9)
    expected = warp.warp(last(maps), last(flow))
    # OpenCV's interpolation knows 32 places between two pixels
    assert (sampling.sample(maps, flow) - first(expected)).abs().max() < 255 / 32


def test_whole_pixels_are_looked_up_exactly_and_the_border_goes_on():
    maps = random(1, 1, 9, 13)
    flow = torch.empty((1, 2, 9, 13))
    flow[:, 0], flow[:, 1] = 4, -2
    found = sampling.sample(maps, flow)
    rows, columns = (np.arange(9) - 2).clip(0), (np.arange(13) + 4).clip(max=12)
    assert torch.allclose(found[0, 0], maps[0, 0][rows][:, columns], atol=1e-2)


def test_half_precision_maps_keep_their_type():
    maps = random(1, 2, 9, 13, high=1.0)
    flow = random(1, 2, 9, 13, low=-2, high=2)
    found = sampling.sample(maps.bfloat16(), flow)
    assert found.dtype == torch.bfloat16
    assert (found.float() - sampling.sample(maps, flow)).abs().max() < 0.2


def test_what_lands_inside_is_that_of_the_host():
    flow = random(2, 2, 12, 17, low=-15, high=15)
    for index, field in enumerate(last(flow).numpy()):
        expected = cv2.inRange(warp.grid(12, 17) + field, (-0.5, -0.5), (16.5, 11.5)) > 0
        assert np.array_equal(sampling.lands_inside(flow, 0.5, (11.5, 16.5))[index].numpy(), expected)


@given(st.integers(1, 20), st.integers(1, 20))
def test_maps_are_cut_or_continued(height, width):
    maps = random(2, 3, 8, 11)
    assert torch.equal(
        sampling.continued(maps, height, width), first(warp.continued(last(maps), height, width))
    )


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2, 4, 16])
def test_grids_are_those_of_the_host(scale, stride):
    maps = random(2, 2, 24, 40)
    rows, columns = 24 * scale // stride + 1, 40 * scale // stride + 1
    found = sampling.resampled(maps, scale, stride, rows, columns)
    expected = warp.resampled(last(maps), scale, stride, rows, columns)
    assert torch.allclose(found, first(expected), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (13, 20)])
def test_means_over_neighbours_are_those_of_the_host(shape):
    maps = random(2, *shape)
    for index, each in enumerate(maps.numpy()):
        assert np.allclose(sampling.blurred(maps)[index].numpy(), cv2.blur(each, (3, 3)), atol=1e-3)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_pooled_sums_leave_out_what_is_beyond_the_map(channels):
    maps = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (2, *channels, 10, 13)))
    found = sampling.pooled(maps, 4, 3, 4)
    assert found.shape == (2, *channels, 3, 4)
    for row in range(3):
        for column in range(4):
            part = maps[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(found[..., row, column], part.sum(dim=(-2, -1)))
