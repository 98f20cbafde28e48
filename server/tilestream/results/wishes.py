"""What a session asks to be told of its masks. Checked where it is read, in ``api/outputs.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilestream.results.limits import DEFAULT_MIN_PIXELS, DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which results are sent.

    ``min_instance_pixels``: smaller instances are not told. ``instance_classes``: those whose instances are
    told, ascending; empty: all. ``polygon_tolerance``: how far an outline may be off, pixels; 0: not at all.
    """

    no_mask: bool = False
    areas: bool = False
    instances: bool = False
    min_instance_pixels: int = DEFAULT_MIN_PIXELS
    instance_classes: tuple[int, ...] = ()
    polygons: bool = False
    polygon_tolerance: float = DEFAULT_TOLERANCE
    coco_rle: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """A named polygon; ``points``: corners (x, y) as shares 0..1 of width and height, closed by itself."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Holds while the area of ``classes`` is above a share of a region, see ``rules.RuleBook``.

    ``region``: a region's name; empty: the whole picture. ``for_ms``: for how long, milliseconds.
    """

    name: str
    classes: tuple[int, ...]
    region: str = ""
    above_share: float = 0.0
    for_ms: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that a session asks for; by default nothing but masks."""

    outputs: Outputs = field(default_factory=Outputs)
    regions: tuple[Region, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def mask_alone(self) -> bool:
        """Whether masks are all that it is told."""
        outputs = self.outputs
        return not (outputs.areas or outputs.instances or self.regions or self.rules)
