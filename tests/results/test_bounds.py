"""Whatever a mask is like, a result is bounded, and says what it lacks."""

import numpy as np
import pytest

from tilestream.label_runs import LabelRuns
from tilestream.results import limits
from tilestream.results.compute import ResultMaker
from tilestream.results.findings import Findings
from tilestream.results.wishes import Outputs, Wishes

RNG = np.random.default_rng(0)


def combs(height: int, width: int, teeth: int) -> np.ndarray:
    """Large instances within one another's boxes, of many corners each."""
    labels = np.zeros((height, width), np.uint8)
    for tooth in range(teeth):
        labels[tooth * 2, :] = 1 + tooth % 9
        labels[tooth * 2 :, tooth * 2] = 1 + tooth % 9
    return labels


HARD = {
    "noise": RNG.integers(0, 11, (720, 1280)).astype(np.uint8),
    "coarse noise": RNG.integers(0, 2, (240, 320)).astype(np.uint8).repeat(3, 0).repeat(4, 1),
    "lines": np.tile((np.arange(720) % 2).astype(np.uint8)[:, None], (1, 1280)),
    "columns": np.tile((np.arange(1280) % 2).astype(np.uint8), (720, 1)),
    "dots": ((np.indices((720, 1280)) % 12 < 9).all(0)).astype(np.uint8),
    "combs": combs(720, 1280, 300),
}


def find(labels: np.ndarray, **outputs) -> Findings:
    return ResultMaker(Wishes(Outputs(**outputs))).find(LabelRuns.of(labels))


@pytest.mark.parametrize("name", HARD)
def test_a_hard_mask_makes_no_large_answer(name):
    found = find(HARD[name], areas=True, instances=True, polygons=True, coco_rle=True, min_instance_pixels=1)
    assert found.encoded_bytes < 400_000
    assert found.left_out
    assert sum(area.pixels for area in found.areas) == 720 * 1280  # areas are always all there
    assert len(found.instances) <= limits.MAX_INSTANCES
    numbers = sum(len(polygon) for each in found.instances for polygon in each.polygons)
    assert numbers <= 2 * limits.MAX_OUTLINE_POINTS


@pytest.mark.parametrize("name", HARD)
def test_the_rles_of_classes_are_bounded_too(name):
    found = find(HARD[name], areas=True, coco_rle=True)
    assert found.encoded_bytes < 400_000
    assert all(area.coco_rle for area in found.areas) != bool(found.left_out)


def test_the_smallest_instances_are_left_out_and_that_is_said():
    found = find(HARD["dots"], instances=True, min_instance_pixels=81, instance_classes=(1,))
    assert len(found.instances) == 256
    assert "instances, the smallest: ask for greater min_instance_pixels" in found.left_out


def test_what_is_traced_is_bounded_before_it_is_traced(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CORNERS", 40)
    found = find(HARD["dots"][:48, :48], instances=True, polygons=True)
    assert sum(bool(each.polygons) for each in found.instances) < len(found.instances)
    assert "polygons: ask for a greater polygon_tolerance, or fewer" in found.left_out
