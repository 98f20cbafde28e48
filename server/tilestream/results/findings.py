"""What is found in one mask. Pixels are those of the mask; shares are 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_BYTES_EACH = 32  # of a message of an area or instance without polygons and RLE, about


@dataclass(frozen=True, slots=True)
class ClassArea:
    """How much of a picture, or of a region, is of one class. ``coco_rle``: empty where not asked for."""

    value: int
    pixels: int
    share: float
    coco_rle: bytes = b""


@dataclass(frozen=True, slots=True)
class Instance:
    """Pixels of one class that hang together, corners included.

    ``box``: x, y, width, height, pixels. ``centroid``: (x, y) as shares of the picture. ``polygons``: x, y,
    x, y, ... along the edges of pixels, the outer outline first, then the holes.
    """

    value: int
    pixels: int
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    polygons: tuple[tuple[float, ...], ...] = ()
    coco_rle: bytes = b""


@dataclass(frozen=True, slots=True)
class RegionAreas:
    """The classes in one region, by value. ``pixels``: those whose centres are inside."""

    name: str
    pixels: int
    areas: tuple[ClassArea, ...]


class EventKind(Enum):
    """Why an event is told; the API's enum of the same name has the same members."""

    BEGAN = "began"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Event:
    """A rule began to hold, or ceased to, at ``time_us``, microseconds since the Unix epoch."""

    rule: str
    kind: EventKind
    time_us: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is told of one mask, as far as it was asked for.

    ``exceeded``: of each rule, whether its area is above its share. ``left_out``: what is missing, since the
    mask has more than one result may hold, and what to do; fit for the client.
    """

    areas: tuple[ClassArea, ...] = ()
    instances: tuple[Instance, ...] = ()
    regions: tuple[RegionAreas, ...] = ()
    exceeded: tuple[bool, ...] = ()
    left_out: str = ""

    @property
    def encoded_bytes(self) -> int:
        """About as many as it takes on the wire."""
        count = len(self.areas) + len(self.instances) + sum(len(region.areas) for region in self.regions)
        numbers = sum(len(polygon) for each in self.instances for polygon in each.polygons)
        rles = sum(len(area.coco_rle) for area in self.areas)
        rles += sum(len(each.coco_rle) for each in self.instances)
        return _BYTES_EACH * count + 4 * numbers + rles
