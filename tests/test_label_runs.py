"""A map and its runs say the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.label_runs import label_maps, split
from tilestream.label_runs import LabelRuns, label_map


@given(label_maps)
def test_runs_give_the_map_they_are_of(labels):
    runs = LabelRuns.of(labels)
    assert np.array_equal(runs.to_map(), labels)
    assert (runs.shape, runs.starts.dtype, runs.values.dtype) == (labels.shape, np.int32, np.uint8)
    assert runs.starts[0] == 0 and runs.lengths.sum() == labels.size
    assert (runs.values[1:] != runs.values[:-1]).all()


@given(label_maps, st.data())
def test_more_runs_than_needed_say_the_same(labels, data):
    runs = split(LabelRuns.of(labels), data)
    assert np.array_equal(runs.to_map(), labels)
    fewest, merged = LabelRuns.of(labels), runs.merged()
    assert np.array_equal(merged.starts, fewest.starts) and np.array_equal(merged.values, fewest.values)
    assert merged.merged() is merged


def test_runs_go_on_over_the_ends_of_rows():
    runs = LabelRuns.of(np.array([[5, 5, 5], [5, 200, 0]], np.uint8))
    assert runs.starts.tolist() == [0, 4, 5] and runs.values.tolist() == [5, 200, 0]
    assert runs.lengths.tolist() == [4, 1, 1]


def test_of_takes_maps_that_are_not_contiguous():
    labels = np.arange(12, dtype=np.uint8).repeat(50).reshape(20, 30)
    for view in (labels[:, ::2], labels.T, labels[::-1]):
        assert np.array_equal(LabelRuns.of(view).to_map(), view)


@pytest.mark.parametrize("form", [np.asarray, LabelRuns.of])
def test_a_map_of_either_form(form):
    labels = np.eye(5, 7, dtype=np.uint8)
    assert np.array_equal(label_map(form(labels)), labels)
