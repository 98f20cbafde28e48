"""From the labels of a frame and what its session asks for to what it is told. For media threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilestream.label_runs import LabelRuns
from tilestream.results import limits
from tilestream.results.coco_rle import compress, counts_of
from tilestream.results.findings import ClassArea, Findings, Instance, RegionAreas
from tilestream.results.instances import Components, find_components
from tilestream.results.outlines import Points, find_corners, simplified
from tilestream.results.regions import LABELS, RegionMap
from tilestream.results.runs import ColumnRuns, Int64Array, column_runs, cut_at_rows, run_of
from tilestream.results.wishes import Outputs, Wishes

_TOO_RAGGED = f"the mask has more than {limits.MAX_RUNS} runs: ask for a smaller output_size"


class ResultMaker:
    """Makes the findings of one session's masks. Several threads may call it at a time."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._map: RegionMap | None = None  # of the latest size
        numbers = {region.name: index for index, region in enumerate(wishes.regions)}
        self._region_of_rule = [numbers.get(rule.region) for rule in wishes.rules]  # None: all of the picture

    def find(self, runs: LabelRuns) -> Findings:
        """What a mask, as runs of its labels, has of all that the session asks for."""
        wishes, outputs = self._wishes, self._wishes.outputs
        picture, regions = _areas(runs), self._regions(runs)
        work = _Ragged(runs, outputs)
        areas = work.class_areas(picture) if outputs.areas else ()
        instances = work.instances() if outputs.instances else ()
        named = zip(wishes.regions, regions, strict=True)
        return Findings(
            areas=areas,
            instances=instances,
            regions=tuple(
                RegionAreas(region.name, int(found.sum()), _class_areas(found)) for region, found in named
            ),
            exceeded=self._exceeded(picture, regions),
            left_out="; ".join(work.left_out),
        )

    def _regions(self, runs: LabelRuns) -> list[Int64Array]:
        if not self._wishes.regions:
            return []
        regions = self._map
        if regions is None or (regions.width, regions.height) != (runs.width, runs.height):
            regions = self._map = RegionMap(self._wishes.regions, runs.width, runs.height)
        return regions.areas(runs)

    def _exceeded(self, picture: Int64Array, regions: Sequence[Int64Array]) -> tuple[bool, ...]:
        exceeded = []
        for rule, region in zip(self._wishes.rules, self._region_of_rule, strict=True):
            areas = picture if region is None else regions[region]
            exceeded.append(int(areas[list(rule.classes)].sum()) > rule.above_share * int(areas.sum()))
        return tuple(exceeded)


class _Ragged:
    """What costs more the more ragged a mask is: instances and RLEs, within the limits."""

    def __init__(self, runs: LabelRuns, outputs: Outputs) -> None:
        self._runs, self._outputs = runs, outputs
        self._counts_left = limits.MAX_COUNTS
        self.left_out: list[str] = []

    def class_areas(self, picture: Int64Array) -> tuple[ClassArea, ...]:
        """The classes that are in the picture; their RLEs where there are no instances to have them."""
        if not self._outputs.coco_rle or self._outputs.instances:
            return _class_areas(picture)
        columns = self._columns(self._rows())
        if columns is None:
            return _class_areas(picture)
        rles = self._rles(columns, columns.values.astype(np.int64), np.flatnonzero(picture))
        return _class_areas(picture, rles)

    def instances(self) -> tuple[Instance, ...]:
        """The largest instances of those that the session asks for."""
        rows, outputs = self._rows(), self._outputs
        if rows is None:
            self.left_out.append(f"instances: {_TOO_RAGGED}")
            return ()
        components = find_components(rows)
        chosen = components.chosen(outputs.instance_classes, outputs.min_instance_pixels)
        if len(chosen) > limits.MAX_INSTANCES:
            self.left_out.append(
                f"{len(chosen) - limits.MAX_INSTANCES} of {len(chosen)} instances, the smallest: "
                "ask for greater min_instance_pixels or fewer instance_classes"
            )
            chosen = chosen[: limits.MAX_INSTANCES]
        polygons = self._polygons(rows, components, chosen) if outputs.polygons else {}
        rles = self._instance_rles(rows, components, chosen) if outputs.coco_rle else {}
        size = np.array((rows.width, rows.height))
        return tuple(
            Instance(
                int(components.values[number]),
                int(components.pixels[number]),
                tuple(components.boxes[number].tolist()),
                tuple((components.centres[number] / size).tolist()),
                polygons.get(number, ()),
                rles.get(number, b""),
            )
            for number in chosen.tolist()
        )

    def _rows(self) -> LabelRuns | None:
        """Cut at the ends of rows; None where there are too many."""
        if len(self._runs.starts) + self._runs.height > limits.MAX_RUNS:
            return None
        return cut_at_rows(self._runs)

    def _columns(self, rows: LabelRuns | None) -> ColumnRuns | None:
        columns = None if rows is None else column_runs(rows, limits.MAX_RUNS)
        if columns is None:
            self.left_out.append(f"COCO RLEs: {_TOO_RAGGED}")
        return columns

    def _instance_rles(self, rows: LabelRuns, components: Components, chosen: Int64Array) -> dict[int, bytes]:
        columns = self._columns(rows)
        if columns is None:
            return {}
        return self._rles(columns, components.component[run_of(rows, columns.pixels)], chosen)

    def _rles(self, columns: ColumnRuns, keys: Int64Array, wanted: Int64Array) -> dict[int, bytes]:
        """Of each key that is wanted, in that order, as long as there are counts left."""
        order = np.argsort(keys, kind="stable")
        begins = np.searchsorted(keys[order], wanted, side="left")
        ends = np.searchsorted(keys[order], wanted, side="right")
        rles, pixels = {}, self._runs.width * self._runs.height
        for key, begin, end in zip(wanted.tolist(), begins, ends, strict=True):
            mine = order[begin:end]
            counts = counts_of(columns.starts[mine], columns.lengths[mine], pixels)
            if len(counts) <= self._counts_left:
                self._counts_left -= len(counts)
                rles[key] = compress(counts)
        self._say_missing("COCO RLEs", len(rles), len(wanted), "a smaller output_size")
        return rles

    def _polygons(
        self, rows: LabelRuns, components: Components, chosen: Int64Array
    ) -> dict[int, tuple[tuple[float, ...], ...]]:
        """Of each instance, the largest first, as long as there are corners left."""
        rank = np.full(len(components.values), -1)
        rank[chosen] = np.arange(len(chosen))
        corners, traced = find_corners(rows, rank[components.component]).up_to(limits.MAX_CORNERS)
        outlines: list[list[Points]] = [[] for _ in range(traced)]
        for instance, outline in corners.outlines():
            outlines[instance].append(simplified(outline, self._outputs.polygon_tolerance))
        found, left = {}, limits.MAX_OUTLINE_POINTS
        for number, mine in zip(chosen.tolist(), outlines, strict=False):
            points = sum(map(len, mine))
            if points <= left:
                left -= points
                found[number] = tuple(tuple(each.ravel().astype(float).tolist()) for each in mine)
        self._say_missing("polygons", len(found), len(chosen), "a greater polygon_tolerance")
        return found

    def _say_missing(self, what: str, found: int, wanted: int, advice: str) -> None:
        if found < wanted:
            self.left_out.append(f"{wanted - found} of {wanted} {what}: ask for {advice}, or fewer")


def _areas(runs: LabelRuns) -> Int64Array:
    """int64 [256]: pixels of each label; sums of whole numbers, which float64 adds up exactly."""
    return np.bincount(runs.values, weights=runs.lengths, minlength=LABELS).astype(np.int64)


def _class_areas(areas: Int64Array, rles: dict[int, bytes] | None = None) -> tuple[ClassArea, ...]:
    """Of the classes that there are. ``areas``: int64 [256], pixels of each label."""
    total = int(areas.sum())
    return tuple(
        ClassArea(value, int(areas[value]), int(areas[value]) / total, (rles or {}).get(value, b""))
        for value in np.flatnonzero(areas).tolist()
    )
