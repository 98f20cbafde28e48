"""Maps that are moved, and brought from grid to grid: each of a batch as if it were alone."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.batches import batch, motion_of, only
from support.textures import moved_pair
from tilestream.engine.motion.warp import chained, continued, resampled, resized, warp

SIDE = st.integers(1, 20)
FEW = st.integers(1, 4)
CHANNELS = st.sampled_from([(), (1,), (2,), (5,)])
DTYPES = st.sampled_from([np.uint8, np.float32])


def random_flow(height, width, seed=0):
    return np.random.default_rng(seed).normal(0, 4, (height, width, 2)).astype(np.float32)


def random_maps(count, shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).random((count, *shape)) * 255
    return torch.from_numpy(values.astype(dtype))


# A motion on the grid of a feature map


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 4]))
def test_at_stride_of_one_motion_is_that_motion(height, width, stride, scale):
    motion = motion_of(np.full((height, width, 2), [3.0, -1.5]), scale=scale)
    rows, columns = -(-height * scale // stride) + 1, -(-width * scale // stride) + 2
    moved = only(motion.at_stride(stride, rows, columns))
    assert moved.shape == (rows, columns, 2) and moved.dtype == np.float32
    assert np.allclose(moved, np.array([3.0, -1.5]) * scale / stride, atol=1e-5)


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 8]))
def test_at_stride_averages_cells(rows, columns, scale, factor):
    flow = random_flow(rows * factor, columns * factor)
    moved = only(motion_of(flow, scale=scale).at_stride(scale * factor, rows, columns))
    expected = flow.reshape(rows, factor, columns, factor, 2).mean(axis=(1, 3)) / factor
    assert np.allclose(moved, expected, atol=1e-5)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5), st.integers(0, 5))
def test_at_stride_goes_on_beyond_the_thumbnail(height, width, down, right):
    flow = random_flow(height, width)
    moved = only(motion_of(flow, scale=4).at_stride(4, height + down, width + right))
    expected = np.pad(flow, ((0, down), (0, right), (0, 0)), mode="edge")
    assert np.array_equal(moved, expected)


def test_at_stride_is_linear_between_pixels_of_a_coarse_thumbnail():
    ramp = np.zeros((6, 8, 2), dtype=np.float32)
    ramp[..., 0] = np.arange(8)
    fine = only(motion_of(ramp, scale=4).at_stride(2, 12, 16))
    # pixel x of the thumbnail has its centre between fine pixels 2 x and 2 x + 1; values double
    expected = 2 * np.clip((np.arange(16) - 0.5) / 2, 0, 7)
    assert np.allclose(fine[..., 0], expected, atol=1e-5)
    assert not fine[..., 1].any()


def test_at_stride_does_not_hand_out_the_flow_itself():
    motion = motion_of(random_flow(4, 4), scale=4)
    motion.at_stride(4, 4, 4)[...] = 0
    assert motion.flow.any()


def test_at_stride_refuses_grids_that_do_not_meet():
    with pytest.raises(ValueError, match="multiple"):
        motion_of(random_flow(4, 4), scale=2).at_stride(3, 4, 4)


# Maps that are moved


def test_warp_fetches_what_was_there():
    previous, current = moved_pair(5, -3)
    moved = only(warp(batch(previous), motion_of(np.full((120, 160, 2), [5.0, -3.0])).flow))
    assert moved.dtype == np.uint8
    assert np.array_equal(moved[3:, :-5], current[3:, :-5])
    # what lies outside has the value of the border
    assert np.array_equal(moved[3:, -5:], np.repeat(previous[:-3, -1:], 5, axis=1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [None, 2])
def test_warp_without_motion_changes_no_bit(dtype, channels):
    shape = (33, 47) if channels is None else (33, 47, channels)
    previous = random_maps(1, shape, dtype)
    moved = warp(previous, motion_of(np.zeros((33, 47, 2))).flow)
    assert moved.dtype == previous.dtype and torch.equal(moved, previous)


def test_warp_can_take_the_nearest_value():
    labels = torch.tensor([[[0, 10], [20, 30]]], dtype=torch.uint8)
    flow = motion_of(np.full((2, 2, 2), [0.4, 0.0])).flow
    assert torch.equal(warp(labels, flow, cv2.INTER_NEAREST), labels)
    assert not torch.equal(warp(labels, flow), labels)


@given(FEW, SIDE, SIDE, SIDE, SIDE, CHANNELS, DTYPES, st.integers(0, 99))
def test_every_map_of_a_batch_is_moved_by_its_own_flow(
    count, height, width, rows, columns, channels, dtype, seed
):
    """Maps may be larger than the flow, or smaller."""
    maps = random_maps(count, (height, width, *channels), dtype, seed)
    flow = torch.from_numpy(np.random.default_rng(seed).normal(0, 4, (count, rows, columns, 2))).float()
    for how in (cv2.INTER_LINEAR, cv2.INTER_NEAREST):
        found = warp(maps, flow, how)
        assert found.shape == (count, rows, columns, *channels) and found.dtype == maps.dtype
        assert torch.equal(found, warp(list(maps), flow, how))
        for index, (source, field) in enumerate(zip(maps.numpy(), flow.numpy(), strict=True)):
            expected = cv2.remap(
                source, field, None, how | cv2.WARP_RELATIVE_MAP, borderMode=cv2.BORDER_REPLICATE
            )
            assert np.array_equal(found[index].numpy(), expected.reshape(rows, columns, *channels))


@given(FEW, SIDE, SIDE, st.integers(0, 99))
def test_chained_motions_are_one(count, height, width, seed):
    flow = random_maps(count, (height, width, 2), seed=seed) / 50 - 2
    earlier = random_maps(count, (height, width, 2), seed=seed + 1) / 50 - 2
    assert torch.equal(chained(flow, None), flow)
    together = chained(flow, list(earlier))
    for index in range(count):
        one = slice(index, index + 1)
        assert torch.equal(together[one], chained(flow[one], earlier[one]))
    steady = torch.ones((1, height, width, 2))
    assert torch.equal(chained(steady, 2 * steady), 3 * steady)


# Maps on other grids


@given(FEW, SIDE, SIDE, SIDE, SIDE, CHANNELS)
def test_continued_maps_end_as_they_ended(count, height, width, rows, columns, channels):
    maps = random_maps(count, (height, width, *channels))
    found = continued(maps, rows, columns)
    beyond = ((0, max(0, rows - height)), (0, max(0, columns - width)), *[(0, 0)] * len(channels))
    for index, single in enumerate(maps.numpy()):
        expected = np.pad(single[:rows, :columns], beyond, mode="edge")
        assert np.array_equal(found[index].numpy(), expected)


@given(FEW, SIDE, SIDE, SIDE, SIDE, st.sampled_from([(), (1,), (2,), (4,)]), DTYPES)
def test_every_map_of_a_batch_is_resized_as_if_it_were_alone(
    count, height, width, rows, columns, channels, dtype
):
    maps = random_maps(count, (height, width, *channels), dtype)
    for how in (cv2.INTER_AREA, cv2.INTER_LINEAR):
        found = resized(maps, rows, columns, how)
        assert found.shape == (count, rows, columns, *channels) and found.dtype == maps.dtype
        for index, single in enumerate(maps.numpy()):
            expected = cv2.resize(single, (columns, rows), interpolation=how)
            assert np.array_equal(found[index].numpy(), expected.reshape(rows, columns, *channels))


@given(FEW, st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), CHANNELS)
def test_maps_of_any_number_of_channels_shrink_by_whole_factors(count, rows, columns, down, right, channels):
    maps = random_maps(count, (rows * down, columns * right, *channels))
    found = resized(maps, rows, columns)
    expected = maps.reshape(count, rows, down, columns, right, *channels).mean(dim=(2, 4))
    assert torch.allclose(found, expected, atol=1e-3)
    assert torch.equal(found, torch.cat([resized(maps[i : i + 1], rows, columns) for i in range(count)]))


@given(FEW, SIDE, SIDE, SIDE, SIDE, st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_every_map_of_a_batch_is_resampled_as_if_it_were_alone(
    count, height, width, rows, columns, scale, stride
):
    for channels in ((), (2,)):
        maps = random_maps(count, (height, width, *channels))
        found = resampled(maps, scale, stride, rows, columns)
        assert found.shape == (count, rows, columns, *channels)
        alone = [resampled(maps[i : i + 1], scale, stride, rows, columns) for i in range(count)]
        assert torch.equal(found, torch.cat(alone))


def test_maps_need_not_lie_together_in_memory():
    """A view of some channels is resized like a copy of them."""
    maps = random_maps(3, (12, 18, 5))
    for channels in (slice(0, 1), slice(1, 4)):
        view = maps[..., channels]
        assert torch.equal(resized(view, 4, 6), resized(view.contiguous(), 4, 6))
        assert torch.equal(continued(view, 14, 20), continued(view.contiguous(), 14, 20))
