"""Outlines: exact where nothing may be off, near enough where something may."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.label_runs import label_maps
from support.polygons import inside
from tilestream.label_runs import LabelRuns
from tilestream.results import limits
from tilestream.results.compute import ResultMaker
from tilestream.results.findings import Instance
from tilestream.results.instances import find_components
from tilestream.results.outlines import find_corners, simplified
from tilestream.results.runs import cut_at_rows
from tilestream.results.wishes import Outputs, Wishes

masks = label_maps.map(lambda labels: labels % 2 == 0).filter(lambda mask: bool(mask.any()))


def instances(labels: np.ndarray, tolerance: float) -> tuple[Instance, ...]:
    outputs = Outputs(instances=True, polygons=True, polygon_tolerance=tolerance, min_instance_pixels=1)
    found = ResultMaker(Wishes(outputs)).find(LabelRuns.of(labels))
    assert not found.left_out
    return found.instances


def outlines_of(mask: np.ndarray) -> list[np.ndarray]:
    """Of all that hangs together in a mask, bool [H, W]."""
    rows = cut_at_rows(LabelRuns.of(mask.astype(np.uint8)))
    components = find_components(rows)
    instance = np.where(rows.values == 1, components.component, -1)
    return [outline for _, outline in find_corners(rows, instance).outlines()]


@pytest.fixture(autouse=True)
def all_of_them(monkeypatch):
    monkeypatch.setattr(limits, "MAX_INSTANCES", 1 << 20)


@given(label_maps)
def test_with_tolerance_0_they_fill_back_to_the_mask(labels):
    again = np.full(labels.shape, -1)
    for each in instances(labels, 0.0):
        mask = inside(each.polygons, *labels.shape)
        assert mask.sum() == each.pixels
        again[mask] = each.value
    np.testing.assert_array_equal(again, labels)


@given(masks)
def test_the_area_within_the_outlines_is_that_of_the_pixels(mask):
    outlines = outlines_of(mask)
    area = 0.0
    for outline in outlines:  # an instance has one outer outline; elsewhere every one may be outer or a hole
        x, y = outline.astype(float).T
        assert ((np.diff(np.append(x, x[0])) == 0) != (np.diff(np.append(y, y[0])) == 0)).all()
        signed = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
        hole = not inside_at(mask, outline)
        area += -abs(signed) if hole else abs(signed)
    assert area == mask.sum()


def inside_at(mask: np.ndarray, outline: np.ndarray) -> bool:
    """Whether the pixel below and right of the topmost, leftmost corner is of the mask."""
    x, y = outline[np.lexsort((outline[:, 0], outline[:, 1]))[0]]
    return bool(mask[y, x])


@given(masks)
def test_there_are_as_many_holes_as_opencv_finds(mask):
    _, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    assert len(outlines_of(mask)) == len(tree[0])


@given(label_maps, st.floats(0.5, 20))
def test_no_corner_is_further_off_than_the_tolerance(labels, tolerance):
    for outline in outlines_of(labels == labels[0, 0]):
        fewer = simplified(outline, tolerance)
        assert 3 <= len(fewer) <= len(outline)
        for x, y in outline:
            distance = -cv2.pointPolygonTest(fewer[:, None].astype(np.float32), (float(x), float(y)), True)
            assert abs(distance) <= tolerance + 1e-3


def test_a_disc_needs_few_corners_and_keeps_its_area():
    labels = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 80, 1, -1)
    (disc,) = [each for each in instances(labels, 1.0) if each.value == 1]
    (outline,) = disc.polygons
    assert len(outline) < 2 * 60
    assert abs(inside(disc.polygons, 200, 200).sum() - disc.pixels) < 0.01 * disc.pixels


def test_a_line_of_one_pixel_and_a_hole_of_one_have_corners():
    labels = np.ones((9, 30), np.uint8)
    labels[2, 3:27] = 2
    labels[6, 10] = 3
    by_class = {each.value: each.polygons for each in instances(labels, 5.0)}
    assert all(len(polygon) >= 6 for polygons in by_class.values() for polygon in polygons)
    assert len(by_class[1]) == 3  # itself and two holes
    assert {tuple(by_class[1][0][i : i + 2]) for i in range(0, len(by_class[1][0]), 2)} <= {
        (0.0, 0.0), (30.0, 0.0), (30.0, 9.0), (0.0, 9.0),
    }  # fmt: skip


def test_places_are_those_of_the_picture_not_of_the_box():
    labels = np.zeros((20, 20), np.uint8)
    labels[5:9, 7:13] = 1
    (box,) = [each for each in instances(labels, 1.0) if each.value == 1]
    assert box.box == (7, 5, 6, 4) and box.centroid == (0.5, 0.35)
    assert sorted(zip(box.polygons[0][::2], box.polygons[0][1::2], strict=True)) == [
        (7, 5), (7, 9), (13, 5), (13, 9),
    ]  # fmt: skip
