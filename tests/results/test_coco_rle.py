"""COCO's run lengths against pycocotools' own steps, written out by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from support.coco import decoded, encoded
from support.label_runs import label_maps, split
from tilestream.label_runs import LabelRuns
from tilestream.results.coco_rle import compress
from tilestream.results.compute import ResultMaker
from tilestream.results.runs import column_runs, cut_at_rows
from tilestream.results.wishes import Outputs, Wishes

EVERYTHING = 1 << 30


@given(st.lists(st.integers(0, 2**33), min_size=1, max_size=30))
def test_counts_are_compressed_as_pycocotools_does(counts):
    assert compress(np.array(counts)) == encoded(counts)


def test_two_known_strings():
    assert compress(np.array([0, 100])) == b"0T3"
    assert compress(np.array([6, 1, 40, 4, 5, 4, 5, 4, 21])) == b"61X13mN000`0"


@given(label_maps, st.data())
def test_classes_decode_back_to_the_mask(labels, data):
    runs = split(LabelRuns.of(labels), data)
    found = ResultMaker(Wishes(Outputs(areas=True, coco_rle=True))).find(runs)
    assert [area.value for area in found.areas] == np.unique(labels).tolist()
    for area in found.areas:
        np.testing.assert_array_equal(decoded(area.coco_rle, *labels.shape), labels == area.value)


@given(label_maps, st.data())
def test_runs_along_columns_are_those_of_the_turned_map(labels, data):
    rows = cut_at_rows(split(LabelRuns.of(labels), data))
    found = column_runs(rows, EVERYTHING)
    assert found is not None
    turned = np.repeat(found.values, found.lengths).reshape(labels.T.shape)
    np.testing.assert_array_equal(turned, labels.T)
    np.testing.assert_array_equal(labels.ravel()[found.pixels], found.values)
    assert column_runs(rows, len(found.starts)) is not None
    assert column_runs(rows, len(found.starts) - 1) is None
