"""What a JPEG's scans say without being decoded: whether all of the picture is in them, what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_layout import Segment
from tilestream.messages import InvalidReason

NOTHING = 99  # bits that are missing of what no scan has

# Seconds of one core, from decoding noise of 3840x2160 at several qualities (libjpeg-turbo, 2.5 GHz): a
# sample that is transformed and turned to RGB, a byte of data (sequential, progressive), a block that a scan
# comes by, a coefficient of it.
_SAMPLE, _SEQUENTIAL_BYTE, _PROGRESSIVE_BYTE, _BLOCK, _COEFFICIENT = 1.5e-9, 15e-9, 45e-9, 25e-9, 1.2e-9


@dataclass(frozen=True, slots=True)
class Component:
    """One of the picture's: its ``id``, its sampling factors, and how many blocks of 8 x 8 samples it has."""

    id: int
    across: int
    down: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Scan:
    """Its components (by place), the coefficients ``first`` to ``last`` of them, down to which ``bit``."""

    components: tuple[int, ...]
    first: int
    last: int
    bit: int


def read_components(body: bytes, width: int, height: int) -> tuple[Component, ...]:
    """Those of a frame header. Raises :class:`BadFrame` where it is none."""
    fields = [body[at : at + 3] for at in range(6, 6 + 3 * body[5], 3)]
    samplings = [(field[1] >> 4, field[1] & 15) for field in fields if len(field) == 3]
    if len(samplings) != body[5] or not all(1 <= factor <= 4 for each in samplings for factor in each):
        raise BadFrame(InvalidReason.CORRUPT, "the JPEG's frame header is damaged")
    most_across, most_down = (max(factors) for factors in zip(*samplings, strict=True))
    return tuple(
        Component(
            field[0], across, down, _blocks(width, across, most_across) * _blocks(height, down, most_down)
        )
        for field, (across, down) in zip(fields, samplings, strict=True)
    )


def read_scan(segment: Segment, components: tuple[Component, ...], progressive: bool) -> Scan | None:
    """What a scan's segment says; None where libjpeg ends with an error at it."""
    body = segment.body
    count = body[0] if body else 0
    if not 1 <= count <= len(components) or len(body) != 2 * count + 4:
        return None
    found: list[int] = []
    for wanted in body[1 : 1 + 2 * count : 2]:
        places = (at for at, each in enumerate(components) if each.id == wanted and at not in found)
        if (place := next(places, None)) is None:
            return None
        found.append(place)
    if not progressive:
        return Scan(tuple(found), 0, 63, 0)
    first, last, bit = body[-3], body[-2], body[-1] & 15
    return Scan(tuple(found), first, last, bit) if first <= last <= 63 else None


def missing_bits(scans: list[Scan], components: int) -> npt.NDArray[np.int64]:
    """[components, 64]: how many bits of a coefficient no scan has; ``NOTHING``: all of them."""
    missing = np.full((components, 64), NOTHING)
    for scan in scans:
        missing[scan.components, scan.first : scan.last + 1] = scan.bit
    return missing


def decoding_seconds(
    scans: list[Scan], components: tuple[Component, ...], size: int, progressive: bool
) -> float:
    """About how long a core is busy with ``size`` bytes of them. The same on every machine, fast or slow."""
    seconds = size * (_PROGRESSIVE_BYTE if progressive else _SEQUENTIAL_BYTE)
    seconds += sum(each.blocks for each in components) * 64 * _SAMPLE
    for scan in scans if progressive else scans[1:]:  # a first sequential one is in its bytes
        blocks = sum(components[place].blocks for place in scan.components)
        seconds += blocks * (_BLOCK + (scan.last - scan.first + 1) * _COEFFICIENT)
    return seconds


def _blocks(pixels: int, factor: int, most: int) -> int:
    return -(-pixels * factor // (8 * most))
