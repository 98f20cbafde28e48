"""What a result says of the labels beside the mask, or instead of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tilestream_client.info import UInt8Array, enum_name
from tilestream_client.masks import decode_coco_rle
from tilestream_client.v1 import segmentation_pb2 as pb

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassArea:
    """How much of the picture, or of a region, is of the class ``value``.

    pixels: of the mask. share: 0..1. coco_rle: "counts" for pycocotools, b"" where not asked for.
    """

    value: int
    pixels: int
    share: float
    coco_rle: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the mask; ``x``, ``y``: of its leftmost column and topmost row."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """Pixels of the class ``value`` that hang together, corners included.

    pixels: how many, of the mask. centroid: (x, y) as shares 0..1 of the picture. polygons: float32 [n, 2]
    each, x and y in pixels of the mask, the outer outline first, then holes; (0, 0) is the corner of the
    first pixel. coco_rle: "counts" for pycocotools. The last two are empty where they were not asked for.
    """

    value: int
    pixels: int
    box: Box
    centroid: tuple[float, float]
    polygons: tuple[Float32Array, ...] = field(default=(), repr=False)
    coco_rle: bytes = field(default=b"", repr=False)

    def mask(self, width: int, height: int) -> UInt8Array:
        """uint8 [height, width]: 1 inside. The size is that of the masks. Raises MaskError without RLE."""
        return decode_coco_rle(self.coco_rle, width, height)


@dataclass(frozen=True, slots=True)
class RegionAreas:
    """The classes within one region of the stream's config, which has ``pixels`` of the mask."""

    name: str
    pixels: int
    areas: tuple[ClassArea, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A rule of the stream's config began to hold or ceased to.

    kind: "began" or "ended". time: when, seconds since the Unix epoch by the clock of the frames' capture
    times, or of the server where they have none.
    """

    rule: str
    kind: str
    time: float


def areas_from_proto(areas: Iterable[pb.ClassArea]) -> tuple[ClassArea, ...]:
    """From the generated messages."""
    return tuple(ClassArea(area.value, area.pixels, area.share, area.coco_rle) for area in areas)


def instances_from_proto(instances: Iterable[pb.Instance]) -> tuple[Instance, ...]:
    """From the generated messages."""
    return tuple(
        Instance(
            value=each.value,
            pixels=each.pixels,
            box=Box(each.box.x, each.box.y, each.box.width, each.box.height),
            centroid=(each.centroid.x, each.centroid.y),
            polygons=tuple(_points(polygon) for polygon in each.polygons),
            coco_rle=each.coco_rle,
        )
        for each in instances
    )


def _points(polygon: pb.Polygon) -> Float32Array:
    numbers = np.array(polygon.points, np.float32)
    return numbers[: len(numbers) // 2 * 2].reshape(-1, 2)


def regions_from_proto(regions: Iterable[pb.RegionAreas]) -> tuple[RegionAreas, ...]:
    """From the generated messages."""
    return tuple(RegionAreas(each.name, each.pixels, areas_from_proto(each.areas)) for each in regions)


def events_from_proto(events: Iterable[pb.Event]) -> tuple[Event, ...]:
    """From the generated messages."""
    return tuple(
        Event(each.rule, enum_name(pb.EventKind, each.kind, "EVENT_KIND_"), each.time_us / 1e6)
        for each in events
    )
