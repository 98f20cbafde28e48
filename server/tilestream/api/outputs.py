"""What sessions are told beside masks: wishes from the API's messages, findings to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tilestream.api.errors import invalid_argument
from tilestream.messages import ModelInfo
from tilestream.results import limits
from tilestream.results.findings import ClassArea, Event, EventKind, Findings, Instance
from tilestream.results.wishes import Outputs, Region, Rule, Wishes
from tilestream.v1 import segmentation_pb2 as pb

_KINDS = {EventKind.BEGAN: pb.EVENT_KIND_BEGAN, EventKind.ENDED: pb.EVENT_KIND_ENDED}


def read_wishes(config: pb.SessionConfig, model: ModelInfo) -> Wishes:
    """What a config asks for. Raises INVALID_ARGUMENT naming the field and what is allowed."""
    _check_number("config.regions", len(config.regions), limits.MAX_REGIONS)
    _check_number("config.rules", len(config.rules), limits.MAX_RULES)
    regions = tuple(_region(index, region) for index, region in enumerate(config.regions))
    points = sum(len(region.points) for region in regions)
    if points > limits.MAX_REGION_POINTS:
        allowed = f"together at most {limits.MAX_REGION_POINTS}: leave out corners or regions"
        raise invalid_argument("config.regions", f"{points} corners", allowed)
    _check_names("regions", [region.name for region in regions])
    _check_names("rules", [rule.name for rule in config.rules])
    names = [region.name for region in regions]
    rules = tuple(_rule(index, rule, names, model) for index, rule in enumerate(config.rules))
    return Wishes(_outputs(config.outputs, model), regions, rules)


def _outputs(outputs: pb.Outputs, model: ModelInfo) -> Outputs:
    if outputs.polygons and not outputs.instances:
        raise invalid_argument("config.outputs.polygons", "set without instances", "set instances, too")
    if outputs.coco_rle and not (outputs.instances or outputs.areas):
        allowed = "set instances or areas, too"
        raise invalid_argument("config.outputs.coco_rle", "set without instances and areas", allowed)
    tolerance = outputs.polygon_tolerance
    if not 0 <= tolerance <= limits.MAX_TOLERANCE:  # also not for NaN
        allowed = f"0 (default, {limits.DEFAULT_TOLERANCE:g}) to {limits.MAX_TOLERANCE:g} pixels"
        raise invalid_argument("config.outputs.polygon_tolerance", f"{tolerance:g}", allowed)
    return Outputs(
        no_mask=outputs.no_mask,
        areas=outputs.areas,
        instances=outputs.instances,
        min_instance_pixels=outputs.min_instance_pixels or limits.DEFAULT_MIN_PIXELS,
        instance_classes=_classes("config.outputs.instance_classes", outputs.instance_classes, model),
        polygons=outputs.polygons,
        polygon_tolerance=tolerance or limits.DEFAULT_TOLERANCE,
        coco_rle=outputs.coco_rle,
    )


def _region(index: int, region: pb.Region) -> Region:
    field = f"config.regions[{index}]"
    _check_name(f"{field}.name", region.name)
    if not limits.MIN_POINTS <= len(region.points) <= limits.MAX_POINTS:
        allowed = f"{limits.MIN_POINTS} to {limits.MAX_POINTS} corners"
        raise invalid_argument(f"{field}.points", f"{len(region.points)}", allowed)
    for number, point in enumerate(region.points):
        if not (0 <= point.x <= 1 and 0 <= point.y <= 1):  # also not for NaN
            allowed = "x and y 0 to 1, as shares of width and height"
            raise invalid_argument(f"{field}.points[{number}]", f"{point.x:g}, {point.y:g}", allowed)
    return Region(region.name, tuple((point.x, point.y) for point in region.points))


def _rule(index: int, rule: pb.Rule, regions: Sequence[str], model: ModelInfo) -> Rule:
    field = f"config.rules[{index}]"
    _check_name(f"{field}.name", rule.name)
    if not rule.classes:
        raise invalid_argument(f"{field}.classes", "empty", "at least one class of the model")
    if rule.region and rule.region not in regions:
        allowed = ", ".join(regions) or "empty (there are no regions)"
        raise invalid_argument(f"{field}.region", f"unknown region {rule.region[:80]!r}", allowed)
    if not (math.isfinite(rule.above_share) and 0 <= rule.above_share < 1):
        raise invalid_argument(f"{field}.above_share", f"{rule.above_share:g}", "0 up to below 1")
    classes = _classes(f"{field}.classes", rule.classes, model)
    return Rule(rule.name, classes, rule.region, rule.above_share, rule.for_ms)


def _classes(field: str, values: Iterable[int], model: ModelInfo) -> tuple[int, ...]:
    """Ascending, each once."""
    classes = tuple(sorted(set(values)))
    if classes and classes[-1] >= len(model.classes):
        allowed = f"0 to {len(model.classes) - 1}, the classes of {model.name}"
        raise invalid_argument(field, f"{classes[-1]}", allowed)
    return classes


def _check_number(field: str, number: int, most: int) -> None:
    if number > most:
        raise invalid_argument(field, str(number), f"at most {most}")


def _check_name(field: str, name: str) -> None:
    if not 1 <= len(name) <= limits.MAX_NAME:
        raise invalid_argument(field, f"{len(name)} characters", f"1 to {limits.MAX_NAME}")


def _check_names(what: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise invalid_argument(f"config.{what}[{index}].name", f"{name!r} again", "names that differ")


def fill_in_wishes(config: pb.SessionConfig, wishes: Wishes) -> None:
    """Say in the config in force what a session asks for; outputs only where it asks for any."""
    outputs = wishes.outputs
    if outputs != Outputs():
        config.outputs.CopyFrom(
            pb.Outputs(
                no_mask=outputs.no_mask,
                areas=outputs.areas,
                instances=outputs.instances,
                min_instance_pixels=outputs.min_instance_pixels,
                instance_classes=outputs.instance_classes,
                polygons=outputs.polygons,
                polygon_tolerance=outputs.polygon_tolerance,
                coco_rle=outputs.coco_rle,
            )
        )
    for region in wishes.regions:
        points = [pb.Point(x=x, y=y) for x, y in region.points]
        config.regions.append(pb.Region(name=region.name, points=points))
    for rule in wishes.rules:
        config.rules.append(
            pb.Rule(
                name=rule.name,
                classes=rule.classes,
                region=rule.region,
                above_share=rule.above_share,
                for_ms=rule.for_ms,
            )
        )


def result_fields(findings: Findings) -> dict[str, Any]:
    """The fields of a FrameResult."""
    fields: dict[str, Any] = {
        "areas": [_area(area) for area in findings.areas],
        "instances": [_instance(instance) for instance in findings.instances],
        "regions": [
            {"name": region.name, "pixels": region.pixels, "areas": [_area(area) for area in region.areas]}
            for region in findings.regions
        ],
    }
    if findings.left_out:
        fields["detail"] = f"left out: {findings.left_out}"
    return fields


def event_fields(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The events of a FrameResult."""
    return [{"rule": event.rule, "kind": _KINDS[event.kind], "time_us": event.time_us} for event in events]


def _area(area: ClassArea) -> dict[str, Any]:
    return {"value": area.value, "pixels": area.pixels, "share": area.share, "coco_rle": area.coco_rle}


def _instance(instance: Instance) -> dict[str, Any]:
    x, y, width, height = instance.box
    return {
        "value": instance.value,
        "pixels": instance.pixels,
        "box": {"x": x, "y": y, "width": width, "height": height},
        "centroid": dict(zip(("x", "y"), instance.centroid, strict=True)),
        "polygons": [{"points": polygon} for polygon in instance.polygons],
        "coco_rle": instance.coco_rle,
    }
