"""Labels as runs: what is written on the device is what is read on the host."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tilestream.engine.resident import reference
from tilestream.engine.resident.runs import RunWriter, read_runs
from tilestream.label_runs import LabelRuns

maps = array_shapes(min_dims=3, max_dims=3, max_side=12).flatmap(
    lambda shape: st.one_of(
        arrays(np.uint8, shape), arrays(np.uint8, shape, elements=st.sampled_from([0, 127, 128, 255]))
    )
)


def same(found, expected):
    return (
        (found.width, found.height) == (expected.width, expected.height)
        and np.array_equal(found.starts, expected.starts)
        and np.array_equal(found.values, expected.values)
        and (found.starts.dtype, found.values.dtype) == (np.int32, np.uint8)
    )


def there_and_back(labels):
    writer, there = RunWriter(reference), torch.from_numpy(labels)
    buffer = writer.write(there)
    assert writer.rewrite(there, buffer) is None
    return read_runs(buffer, len(labels), labels.shape[1:])


@given(maps)
def test_any_labels_come_back_in_the_fewest_runs(labels):
    for found, expected in zip(there_and_back(labels), labels, strict=True):
        assert same(found, LabelRuns.of(expected))
        assert np.array_equal(found.to_map(), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 9, 1), (2, 1, 1), (1, 40, 30)])
def test_thin_frames_and_single_ones(shape):
    labels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for found, expected in zip(there_and_back(labels), labels, strict=True):
        assert same(found, LabelRuns.of(expected))


@given(maps, st.integers(0, 40))
def test_what_does_not_fit_is_written_once_more(labels, capacity):
    writer, there = RunWriter(reference), torch.from_numpy(labels)
    buffer = reference.label_runs(there, capacity)
    assert buffer.shape == (len(labels) + capacity,)
    more, needed = writer.rewrite(there, buffer), sum(len(LabelRuns.of(each).starts) for each in labels)
    assert (more is None) == (needed <= capacity)
    found = read_runs(buffer if more is None else more, len(labels), labels.shape[1:])
    assert all(same(one, LabelRuns.of(each)) for one, each in zip(found, labels, strict=True))


def test_the_room_follows_what_was_needed_lately():
    writer = RunWriter(reference)
    busy = torch.arange(200 * 100).remainder(2).to(torch.uint8).view(1, 200, 100)
    calm = torch.zeros((1, 200, 100), dtype=torch.uint8)
    assert writer.rewrite(busy, writer.write(busy)) is not None  # 20,000 runs, more than at first
    assert writer.rewrite(busy, writer.write(busy)) is None
    room = len(writer.write(calm))
    for _ in range(200):
        assert writer.rewrite(calm, writer.write(calm)) is None
    assert len(writer.write(calm)) < room / 4


def test_runs_are_arrays_of_their_own():
    labels = torch.tensor([[[1, 2, 2]], [[3, 3, 4]]], dtype=torch.uint8)
    buffer = reference.label_runs(labels, 10)
    one, other = read_runs(buffer, 2, (1, 3))
    buffer.zero_()
    assert one.to_map().tolist() == [[1, 2, 2]] and other.to_map().tolist() == [[3, 3, 4]]
