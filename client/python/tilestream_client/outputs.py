"""What to ask for beside masks: outputs, regions and rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilestream_client.v1 import segmentation_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What results say of the labels; all of it at the size of the masks.

    no_mask: send no masks. areas: ask for ``Result.areas``. instances: ask for ``Result.instances``, those of
        ``instance_classes`` (label values; empty: all) with at least ``min_instance_pixels`` (0: 64).
    polygons: with instances: their outlines, which may be ``polygon_tolerance`` pixels off (0: 1).
    coco_rle: COCO's run lengths of every instance; without instances, of every class of the areas.
    """

    no_mask: bool = False
    areas: bool = False
    instances: bool = False
    min_instance_pixels: int = 0
    instance_classes: Sequence[int] = ()
    polygons: bool = False
    polygon_tolerance: float = 0.0
    coco_rle: bool = False

    def to_proto(self) -> pb.Outputs:
        """As the generated message."""
        return pb.Outputs(
            no_mask=self.no_mask,
            areas=self.areas,
            instances=self.instances,
            min_instance_pixels=self.min_instance_pixels,
            instance_classes=self.instance_classes,
            polygons=self.polygons,
            polygon_tolerance=self.polygon_tolerance,
            coco_rle=self.coco_rle,
        )


@dataclass(frozen=True, slots=True)
class Region:
    """A named polygon in the picture: 3 to 64 corners (x, y), shares 0..1 of its width and height."""

    name: str
    points: Sequence[tuple[float, float]]

    def to_proto(self) -> pb.Region:
        """As the generated message."""
        return pb.Region(name=self.name, points=[pb.Point(x=x, y=y) for x, y in self.points])


@dataclass(frozen=True, slots=True)
class Rule:
    """Makes a ``Result.events`` entry when it begins or ceases to hold.

    It holds once the area of ``classes`` (label values) was above the share ``above_share`` of ``region`` (a
    region's name; "": the picture) for ``for_seconds`` of capture time, and ends once it was not for as long.
    """

    name: str
    classes: Sequence[int]
    region: str = ""
    above_share: float = 0.0
    for_seconds: float = 0.0

    def to_proto(self) -> pb.Rule:
        """As the generated message."""
        return pb.Rule(
            name=self.name,
            classes=self.classes,
            region=self.region,
            above_share=self.above_share,
            for_ms=round(self.for_seconds * 1000),
        )
