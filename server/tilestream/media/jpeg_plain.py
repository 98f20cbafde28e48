"""Which JPEGs may be decoded by something else than libjpeg-turbo: plain ones, of which all make the same.

A decoder on a device takes less than libjpeg-turbo does, guesses colours otherwise, and may say nothing about
damage. All but the content of the compressed data is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from tilestream.media.jpeg_clean import adobe_transform, is_jfif
from tilestream.media.jpeg_header import JpegHeader
from tilestream.media.jpeg_layout import DHT, DQT, DRI, END, EOI, SOS, Markers, is_frame_header

_BASELINE, _RST0 = 0xC0, 0xD0
_LUMA_SAMPLINGS = {(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)}  # of colour at 1 x 1: 444, 422, 440, 420, 411
_LEAST_BITS = 2  # of a block: a code that says it is like the one before, and one that ends it


@dataclass(slots=True)
class _Facts:
    """What of the header decides. ``frame``, ``scan``: those segments."""

    baseline: bool = False
    frame: bytes = b""
    scan: bytes = b""
    restart_interval: int = 0
    tables: set[int] = field(default_factory=set)
    jfif: bool = False
    adobe_transform: int | None = None

    @property
    def components(self) -> list[tuple[int, tuple[int, int]]]:
        """Of each: its id, and its sampling factors (horizontal, vertical)."""
        fields = (self.frame[at : at + 3] for at in range(6, len(self.frame), 3))
        return [(field[0], (field[1] >> 4, field[1] & 15)) for field in fields if len(field) == 3]


def is_plain(header: JpegHeader) -> bool:
    """Whether a JPEG, of which ``read_header`` found this, is of the most common kind, and whole.

    That is: baseline, gray or YCbCr with a usual subsampling, tables of its own, and one scan, with no
    markers behind it but the restart markers that there have to be, in order, and an end marker that was
    sent, without padding. Damage between them is not seen.
    """
    facts = _look_at(header)
    if not facts.baseline or not {DQT, DHT} <= facts.tables or not _is_usual(facts):
        return False
    if not header.ended or not header.complete or header.further or header.data.endswith(bytes(2) + END):
        return False
    restarts, size = _restarts(header.markers)
    mcus, blocks = _mcus(facts)
    expected = -(-mcus // facts.restart_interval) - 1 if facts.restart_interval else 0
    return restarts == expected and 8 * size >= _LEAST_BITS * mcus * blocks


def _look_at(header: JpegHeader) -> _Facts:
    facts = _Facts()
    for segment in header.segments:
        body = segment.body
        if is_frame_header(segment.marker):
            facts.baseline, facts.frame = segment.marker == _BASELINE, body
        elif segment.marker == DRI:
            facts.restart_interval = int.from_bytes(body[:2], "big")
        elif segment.marker in (DQT, DHT):
            facts.tables.add(segment.marker)
        elif segment.marker == SOS:
            facts.scan = body
        facts.jfif |= is_jfif(segment)
        if (transform := adobe_transform(segment)) is not None:
            facts.adobe_transform = transform
    return facts


def _is_usual(facts: _Facts) -> bool:
    """Whether colours and subsampling are the usual ones, and the first scan holds all of them."""
    components = facts.components
    samplings = [sampling for _, sampling in components]
    if facts.scan[:1] != bytes([len(components)]):
        return False
    if len(components) == 1:
        return samplings == [(1, 1)]
    return _is_ycbcr(facts) and samplings[0] in _LUMA_SAMPLINGS and samplings[1:] == [(1, 1), (1, 1)]


def _is_ycbcr(facts: _Facts) -> bool:
    """Whether nothing speaks against it: libjpeg-turbo goes by the Adobe marker, or by components' ids."""
    if facts.jfif:
        return facts.adobe_transform in (None, 1)
    if facts.adobe_transform is not None:
        return facts.adobe_transform == 1
    ids = [each for each, _ in facts.components]
    return all(after == before + 1 for before, after in pairwise(ids)) and ids[0] in (0, 1)


def _restarts(markers: Markers) -> tuple[int, int]:
    """How many restart markers there are in order, and the bytes of data; (-1, 0) for any other marker."""
    ends = np.flatnonzero(markers.codes == EOI)
    if not len(ends):
        return -1, 0
    count = int(ends[0])
    in_order = np.array_equal(markers.codes[:count], _RST0 + np.arange(count) % 8)
    return (count, int(markers.places[count])) if in_order else (-1, 0)


def _mcus(facts: _Facts) -> tuple[int, int]:
    """How many units the scan has that restarts are counted in, and the blocks of 8 x 8 samples of each."""
    height, width = int.from_bytes(facts.frame[1:3], "big"), int.from_bytes(facts.frame[3:5], "big")
    across, down = facts.components[0][1]
    blocks = sum(h * v for _, (h, v) in facts.components)
    return -(-width // (8 * across)) * -(-height // (8 * down)), blocks
