"""Read a JPEG's header without decoding it: is it one, how large, of which kind, is it whole?

Nothing is decoded, so a frame that claims to be 65535 x 65535 pixels is refused before anything of that size
is allocated. What is compressed is looked through for markers once, by numpy: that releases the interpreter
lock, and ``bytes.count`` takes four times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tilestream.media.errors import BadFrame
from tilestream.messages import InvalidReason

SOS = 0xDA
EOI = 0xD9
_SOI = b"\xff\xd8"
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # DHT, JPG and DAC stand among the numbers of frame headers
_TAKEN = {0xC0: "baseline", 0xC1: "extended sequential", 0xC2: "progressive"}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}  # TEM and the restart markers
_MAX_SCANS = 64  # real files have about 10; each costs the decoder a pass over the whole image


@dataclass(frozen=True, slots=True, eq=False)
class JpegHeader:
    """What the header says. ``width``, ``height`` in pixels; ``components``: 1 gray, 3 colour.

    ``segments``: up to the one before the first scan. ``markers``: what comes behind it.
    """

    width: int
    height: int
    components: int
    progressive: bool
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    markers: Markers = field(default_factory=lambda: Markers.of(b"", 0), repr=False)


def read_header(data: bytes) -> JpegHeader:
    """The header of a JPEG that we can decode. Raises :class:`BadFrame` for everything else."""
    if not data:
        raise BadFrame(InvalidReason.EMPTY, "the frame has no data")
    if data[:2] != _SOI:
        raise BadFrame(InvalidReason.NOT_JPEG, "the frame does not start like a JPEG (FF D8)")
    header: JpegHeader | None = None
    found = []
    for segment in _segments(data):
        if is_frame_header(segment.marker):
            if header is not None:
                raise BadFrame(InvalidReason.CORRUPT, "the JPEG has two frame headers")
            header = _read_frame_header(segment.marker, segment.body)
        found.append(segment)
    if header is None:
        raise BadFrame(InvalidReason.CORRUPT, "the JPEG has a scan before its frame header")
    markers = Markers.of(data, found[-1].end)
    if not markers.count(EOI):  # anywhere: cameras may pad
        raise BadFrame(InvalidReason.TRUNCATED, "the JPEG ends before its end marker (FF D9)")
    # Counted from the first one on, where FF is escaped; previews, which may hold more, lie before it.
    if 1 + markers.count(SOS) > _MAX_SCANS:
        raise BadFrame(InvalidReason.UNSUPPORTED, f"the JPEG has more than {_MAX_SCANS} scans")
    return replace(header, segments=tuple(found), markers=markers)


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker FF ``marker`` with its content; what follows begins at byte ``end``."""

    marker: int
    body: bytes
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Markers:
    """Every FF that is not followed by 00, from the first scan's data on, which begins at byte ``begin``.

    ``places``: int64 [n], of FF, counted from ``begin``. ``codes``: uint8 [n], the bytes after it.
    """

    begin: int
    places: npt.NDArray[np.int64]
    codes: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, data: bytes, begin: int) -> Markers:
        """Those of a JPEG."""
        scan = np.frombuffer(data, np.uint8)[begin:]
        places = np.flatnonzero(scan[:-1] == 0xFF)
        codes = scan[1:][places]
        marks = codes != 0
        return cls(begin, places[marks], codes[marks])

    def count(self, code: int) -> int:
        """How many have this code."""
        return int(np.count_nonzero(self.codes == code))


def _segments(data: bytes) -> Iterator[Segment]:
    """A JPEG's segments up to the one before its first scan. Raises :class:`BadFrame` where one is broken."""
    at, size = 2, len(data)
    while True:
        if at + 1 >= size:
            raise BadFrame(InvalidReason.TRUNCATED, "the JPEG ends inside its header")
        if data[at] != 0xFF:
            raise BadFrame(InvalidReason.CORRUPT, f"no JPEG marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        if marker in (0x00, 0xD8, 0xD9):
            raise BadFrame(InvalidReason.CORRUPT, f"JPEG marker FF {marker:02X} inside the header")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if at + 4 > size or end > size:
            raise BadFrame(InvalidReason.TRUNCATED, "the JPEG ends inside its header")
        if length < 2:
            raise BadFrame(InvalidReason.CORRUPT, f"JPEG segment of length {length} at byte {at}")
        yield Segment(marker, data[at + 4 : end], end)
        if marker == SOS:
            return
        at = end


def is_frame_header(marker: int) -> bool:
    """Whether it is one of SOF0 to SOF15."""
    return 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME


def _read_frame_header(marker: int, body: bytes) -> JpegHeader:
    """The SOF segment: precision, size and components."""
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
    return JpegHeader(width, height, components, _TAKEN[marker] == "progressive")
