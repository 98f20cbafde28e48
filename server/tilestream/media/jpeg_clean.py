"""A picture as decoders get it: its own bytes, without what makes them warn or fail and changes no pixel.

libjpeg tells only of the first warning of a picture. One about a header, which every reader ignores, would
hide that its data is damaged; and a decoder on a device may refuse, or read otherwise, what libjpeg reads.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tilestream.media.jpeg_layout import END, SOS, START, Layout, Segment

_APP0, _APP2, _ADOBE = 0xE0, 0xE2, 0xEE
_JFIF_BYTES, _ADOBE_BYTES = 14, 12  # as many libjpeg wants before it believes such a segment
_WHOLE_SCAN = (
    b"\x00\x3f\x00"  # all 64 coefficients, all of their bits: what a sequential decoder reads anyway
)


def clean(data: bytes, layout: Layout, progressive: bool) -> tuple[bytes, tuple[Segment, ...]]:
    """The picture's bytes (``data`` itself where nothing is to be done), and its header's segments."""
    segments = tuple(kept for each in layout.header if (kept := _cleaned(each, progressive)) is not None)
    further = [] if progressive else [each for each in layout.between if each.marker == SOS]
    wrong = [each for each in further if each.body[-3:] != _WHOLE_SCAN]
    if segments == layout.header and not wrong and _is_bare(data, layout):
        return data, segments
    scans = bytearray(memoryview(data)[layout.first_scan.end : layout.end])
    for each in wrong:
        end = each.end - layout.first_scan.end
        scans[end - 3 : end] = _WHOLE_SCAN
    return b"".join((START, *map(_bytes, segments), scans, END)), segments


def _is_bare(data: bytes, layout: Layout) -> bool:
    """Whether there is nothing before, between and behind its parts."""
    ends_there = layout.ended and layout.end + len(END) == len(data)
    touching = all(before.end == after.begin for before, after in pairwise(layout.header))
    return ends_there and touching and layout.header[0].begin == len(START) and data.startswith(START)


def _cleaned(segment: Segment, progressive: bool) -> Segment | None:
    """The segment as decoders get it; None: not at all."""
    marker, body = segment.marker, segment.body
    if marker == _APP2 and body.startswith(b"ICC_PROFILE\0"):
        return None  # colours are taken as they are, here as by OpenCV and Pillow
    if _is_cut(segment):
        return None  # libjpeg does not believe it, Pillow fails over it
    if is_jfif(segment) and body[5] != 1:  # revision 0.02 or 2.01 of what has only ever been 1.0x
        return replace(segment, body=body[:5] + b"\x01" + body[6:])
    if adobe_transform(segment) not in (None, 0, 1):  # libjpeg takes what it does not know for YCbCr
        return replace(segment, body=body[:11] + b"\x01" + body[12:])
    if marker == SOS and not progressive and body[-3:] != _WHOLE_SCAN:
        return replace(segment, body=body[:-3] + _WHOLE_SCAN)
    return segment


def _is_cut(segment: Segment) -> bool:
    """Whether it begins as JFIF's or Adobe's and is too short to be one."""
    jfif = segment.marker == _APP0 and segment.body.startswith(b"JFIF") and len(segment.body) < _JFIF_BYTES
    adobe = segment.marker == _ADOBE and segment.body.startswith(b"Adobe")
    return jfif or (adobe and len(segment.body) < _ADOBE_BYTES)


def is_jfif(segment: Segment) -> bool:
    """Whether it makes the picture a JFIF one, whose colours are YCbCr."""
    return segment.marker == _APP0 and segment.body.startswith(b"JFIF\0") and len(segment.body) >= _JFIF_BYTES


def adobe_transform(segment: Segment) -> int | None:
    """What Adobe's segment says of the colours: 0 RGB, 1 YCbCr; None where it is not such a one."""
    adobe = segment.marker == _ADOBE and segment.body.startswith(b"Adobe")
    return segment.body[11] if adobe and len(segment.body) >= _ADOBE_BYTES else None


def _bytes(segment: Segment) -> bytes:
    return bytes([0xFF, segment.marker]) + (len(segment.body) + 2).to_bytes(2, "big") + segment.body
