"""Read a JPEG's header without decoding it: is it one, how large, of which kind, whole, what will it cost?

Nothing is decoded, so a frame that claims to be 65535 x 65535 pixels is refused before anything of that size
is allocated, and one of too many scans before its first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_clean import clean
from tilestream.media.jpeg_layout import Layout, Markers, Segment, is_frame_header, read_layout
from tilestream.media.jpeg_scans import (
    NOTHING,
    decoding_seconds,
    missing_bits,
    read_components,
    read_scan,
)
from tilestream.messages import InvalidReason

_TAKEN = {0xC0: "baseline", 0xC1: "extended sequential", 0xC2: "progressive"}


@dataclass(frozen=True, slots=True, eq=False)
class JpegHeader:
    """What the header says. ``width``, ``height`` in pixels; ``components``: 1 gray, 3 colour.

    ``data``: the picture as decoders get it (``jpeg_clean``), without what was in front of it or behind.
    ``ended``: an end marker was there. ``complete``: its scans have every bit of every coefficient.
    ``seconds``: about what decoding costs a core. ``segments``: up to the one before the first scan;
    ``further``: how many come behind it. ``markers``: those behind it, in the data as it was sent.
    """

    width: int
    height: int
    components: int
    progressive: bool
    data: bytes = field(repr=False)
    ended: bool
    complete: bool
    seconds: float
    segments: tuple[Segment, ...] = field(repr=False)
    further: int = field(repr=False)
    markers: Markers = field(repr=False)


def read_header(data: bytes) -> JpegHeader:
    """The header of a JPEG that we can decode. Raises :class:`BadFrame` for everything else."""
    if not data:
        raise BadFrame(InvalidReason.EMPTY, "the frame has no data")
    layout = read_layout(data)
    frame = _frame_header(layout)
    width, height, progressive = _read_frame_header(frame)
    components = read_components(frame.body, width, height)
    read = [read_scan(each, components, progressive) for each in layout.scans]
    scans = [each for each in read if each is not None]
    missing = missing_bits(scans, len(components))
    sound = len(scans) == len(read)
    if sound:  # else the decoder says what is wrong
        _check_whole(layout, missing[:, 0].max() == NOTHING, bool(missing.any()))
    cleaned, segments = clean(data, layout, progressive)
    return JpegHeader(
        width,
        height,
        len(components),
        progressive,
        data=cleaned,
        ended=layout.ended,
        complete=sound and not missing.any(),
        seconds=decoding_seconds(scans, components, len(cleaned), progressive),
        segments=segments,
        further=len(layout.between),
        markers=layout.markers,
    )


def _frame_header(layout: Layout) -> Segment:
    found = [each for each in layout.header if is_frame_header(each.marker)]
    if not found:
        raise BadFrame(InvalidReason.CORRUPT, "the JPEG has a scan before its frame header")
    if len(found) > 1:
        raise BadFrame(InvalidReason.CORRUPT, "the JPEG has two frame headers")
    return found[0]


def _read_frame_header(frame: Segment) -> tuple[int, int, bool]:
    """The SOF segment: width, height, whether it is progressive. Checks kind, precision and components."""
    marker, body = frame.marker, frame.body
    if marker not in _TAKEN:
        kinds = ", ".join(_TAKEN.values())
        raise BadFrame(
            InvalidReason.UNSUPPORTED, f"JPEG of kind SOF{marker - 0xC0} is not taken; taken are {kinds}"
        )
    if len(body) < 6:
        raise BadFrame(InvalidReason.CORRUPT, "the JPEG's frame header is too short")
    precision, components = body[0], body[5]
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if precision != 8:
        raise BadFrame(InvalidReason.UNSUPPORTED, f"JPEG with {precision} bits per sample, 8 are taken")
    if components not in (1, 3):
        kind = "CMYK or YCCK" if components == 4 else f"{components} components"
        raise BadFrame(InvalidReason.UNSUPPORTED, f"JPEG in {kind} is not taken; taken are colour and gray")
    if not width or not height:
        raise BadFrame(InvalidReason.CORRUPT, f"the JPEG's header says {width} x {height} pixels")
    return width, height, _TAKEN[marker] == "progressive"


def _check_whole(layout: Layout, lacks_component: bool, incomplete: bool) -> None:
    """Whether scans are missing. What of their data is missing shows when they are decoded."""
    if lacks_component:
        raise BadFrame(InvalidReason.TRUNCATED, "the JPEG ends before the scans of all its components")
    if not layout.ended and incomplete:
        raise BadFrame(
            InvalidReason.TRUNCATED, "the JPEG ends before its last scan, without an end marker (FF D9)"
        )
