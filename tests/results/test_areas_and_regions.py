"""Areas, of the picture and of regions, against counting pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.label_runs import label_maps, split
from support.polygons import inside
from tilestream.label_runs import LabelRuns
from tilestream.results.compute import ResultMaker
from tilestream.results.wishes import Outputs, Region, Rule, Wishes

points = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
regions = st.lists(st.lists(points, min_size=3, max_size=8).map(tuple), min_size=1, max_size=5).map(
    lambda polygons: tuple(Region(f"r{index}", polygon) for index, polygon in enumerate(polygons))
)
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def counted(labels: np.ndarray) -> dict[int, int]:
    return dict(zip(*(each.tolist() for each in np.unique(labels, return_counts=True)), strict=True))


@given(label_maps, st.data())
def test_areas_add_up_to_the_pixels(labels, data):
    runs = split(LabelRuns.of(labels), data)
    areas = ResultMaker(Wishes(Outputs(areas=True))).find(runs).areas
    assert {area.value: area.pixels for area in areas} == counted(labels)
    assert sum(area.pixels for area in areas) == labels.size
    assert sum(area.share for area in areas) == pytest.approx(1)


@given(label_maps, regions, st.data())
def test_areas_of_regions_are_those_of_the_pixels_whose_centres_are_inside(labels, regions, data):
    runs = split(LabelRuns.of(labels), data)
    found = ResultMaker(Wishes(regions=regions)).find(runs).regions
    height, width = labels.shape
    for region, told in zip(regions, found, strict=True):
        corners = (np.array(region.points) * (width, height)).ravel()
        mask = inside([corners], height, width)
        assert (told.name, told.pixels) == (region.name, mask.sum())
        assert {area.value: area.pixels for area in told.areas} == counted(labels[mask])


def test_64_regions_and_a_new_size():
    strips = [((i / 64, 0.0), ((i + 1) / 64, 0.0), ((i + 1) / 64, 1.0), (i / 64, 1.0)) for i in range(64)]
    maker = ResultMaker(Wishes(regions=tuple(Region(f"{i}", strip) for i, strip in enumerate(strips))))
    for height, width in ((10, 128), (7, 64)):
        labels = np.tile(np.arange(width) * 64 // width, (height, 1)).astype(np.uint8)
        found = maker.find(LabelRuns.of(labels)).regions
        assert [each.pixels for each in found] == [height * width // 64] * 64
        assert [[area.value for area in each.areas] for each in found] == [[i] for i in range(64)]


def test_the_middle_of_a_star_is_outside():
    star = tuple((0.5 + 0.5 * np.sin(t), 0.5 - 0.5 * np.cos(t)) for t in np.arange(5) * 4 * np.pi / 5)
    labels = np.zeros((100, 100), np.uint8)
    labels[45:55, 45:55] = 1
    (found,) = ResultMaker(Wishes(regions=(Region("star", star),))).find(LabelRuns.of(labels)).regions
    assert [area.value for area in found.areas] == [0] and 0 < found.pixels < 5000


def test_a_rule_compares_with_its_region():
    labels = np.zeros((10, 20), np.uint8)
    labels[:, :2] = 3  # a fifth of the left half, a tenth of the picture
    rules = (
        Rule("half", (3,), "left", above_share=0.19),
        Rule("not above", (3,), "left", above_share=0.2),
        Rule("picture", (3,), above_share=0.09),
        Rule("any", (3, 7)),
        Rule("none", (7,)),
        Rule("sum", (0, 3), above_share=0.999),
        Rule("nothing inside", (3,), "empty"),
    )
    empty = Region("empty", ((0.5, 0.5), (0.5, 0.5), (0.5, 0.5)))
    wishes = Wishes(regions=(Region("left", LEFT_HALF), empty), rules=rules)
    found = ResultMaker(wishes).find(LabelRuns.of(labels))
    assert found.exceeded == (True, False, True, True, False, True, False)
    assert found.regions[1].pixels == 0 and not found.regions[1].areas
