"""Instances against OpenCV's connected components."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.coco import decoded
from support.label_runs import label_maps, split
from tilestream.label_runs import LabelRuns
from tilestream.results import limits
from tilestream.results.compute import ResultMaker
from tilestream.results.findings import Findings
from tilestream.results.wishes import Outputs, Wishes


def find(labels: np.ndarray, **wishes) -> Findings:
    outputs = Outputs(instances=True, **{"min_instance_pixels": 1, **wishes})
    return ResultMaker(Wishes(outputs)).find(LabelRuns.of(labels))


def opencv(labels: np.ndarray) -> list[tuple]:
    """(value, pixels, box, centroid) of every component, as OpenCV finds them."""
    found = []
    for value in np.unique(labels):
        mask = (labels == value).astype(np.uint8)
        count, _, stats, centroids = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for (x, y, width, height, area), (cx, cy) in zip(stats[1:count], centroids[1:count], strict=True):
            centre = (round((cx + 0.5) / labels.shape[1], 6), round((cy + 0.5) / labels.shape[0], 6))
            found.append((int(value), int(area), (int(x), int(y), int(width), int(height)), centre))
    return sorted(found)


@pytest.fixture(autouse=True)
def all_of_them(monkeypatch):
    monkeypatch.setattr(limits, "MAX_INSTANCES", 1 << 20)


@given(label_maps, st.data())
def test_they_are_those_that_opencv_finds(labels, data):
    runs = split(LabelRuns.of(labels), data)
    found = ResultMaker(Wishes(Outputs(instances=True, min_instance_pixels=1))).find(runs).instances
    told = [
        (each.value, each.pixels, each.box, (round(each.centroid[0], 6), round(each.centroid[1], 6)))
        for each in found
    ]
    assert sorted(told) == opencv(labels)
    assert [each.pixels for each in found] == sorted((each.pixels for each in found), reverse=True)


def test_a_spiral_and_a_comb_are_one_each():
    spiral = np.zeros((41, 41), np.uint8)
    for ring in range(0, 20, 2):
        spiral[ring, ring : 41 - ring] = spiral[ring : 41 - ring, 40 - ring] = 1
        spiral[40 - ring, ring : 41 - ring] = spiral[ring + 2 : 41 - ring, ring] = 1
        spiral[ring + 2, ring : ring + 3] = 1
    assert len([each for each in find(spiral).instances if each.value == 1]) == 1
    comb = np.zeros((40, 41), np.uint8)
    comb[:, ::2] = comb[-1] = 1
    assert [each.pixels for each in find(comb).instances if each.value == 1] == [int(comb.sum())]


@given(label_maps)
def test_their_rles_are_their_pixels(labels):
    found = find(labels, coco_rle=True)
    assert not found.left_out
    seen = np.zeros(labels.shape, int)
    for each in found.instances:
        mask = decoded(each.coco_rle, *labels.shape)
        assert mask.sum() == each.pixels and (labels[mask] == each.value).all()
        seen += mask
    assert (seen == 1).all()


def test_small_ones_and_other_classes_are_not_told():
    labels = np.zeros((20, 20), np.uint8)
    labels[2:5, 2:5], labels[10:12, 10:12], labels[15, 15] = 1, 1, 2
    assert [each.pixels for each in find(labels, instance_classes=(1, 2)).instances] == [9, 4, 1]
    assert [each.pixels for each in find(labels, instance_classes=(1,), min_instance_pixels=5).instances] == [
        9
    ]
    assert find(labels, min_instance_pixels=10).instances[0].value == 0


def test_a_class_has_its_rle_with_its_instances_only_once():
    labels = np.zeros((8, 8), np.uint8)
    found = find(labels, areas=True, coco_rle=True)
    assert not found.areas[0].coco_rle and found.instances[0].coco_rle == b"0P2"
