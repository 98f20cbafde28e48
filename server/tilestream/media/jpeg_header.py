"""Read a JPEG's header without decoding it: is it one, how large, of which kind, is it whole?

A few hundred bytes are looked at, so a frame that claims to be 65535 x 65535 pixels is refused
before anything of that size is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilestream.media.errors import BadFrame
from tilestream.messages import InvalidReason

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOS, _DHT, _JPG, _DAC = 0xDA, 0xC4, 0xC8, 0xCC
_TAKEN = {0xC0: "baseline", 0xC1: "extended sequential", 0xC2: "progressive"}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}  # TEM and the restart markers
_MAX_SCANS = 64  # real files have about 10; each costs the decoder a pass over the whole image


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the header says. ``width``, ``height`` in pixels; ``components``: 1 gray, 3 colour."""

    width: int
    height: int
    components: int
    progressive: bool


def read_header(data: bytes) -> JpegHeader:
    """The header of a JPEG that we can decode. Raises :class:`BadFrame` for everything else."""
    if not data:
        raise BadFrame(InvalidReason.EMPTY, "the frame has no data")
    if data[:2] != _SOI:
        raise BadFrame(InvalidReason.NOT_JPEG, "the frame does not start like a JPEG (FF D8)")
    header, scan = _walk_segments(data)
    if data.rfind(_EOI, scan) < 0:  # from the end: cameras may pad
        raise BadFrame(InvalidReason.TRUNCATED, "the JPEG ends before its end marker (FF D9)")
    # Counted from the first one on, where FF is escaped; previews, which may hold more, lie before it.
    if 1 + data.count(b"\xff\xda", scan) > _MAX_SCANS:
        raise BadFrame(InvalidReason.UNSUPPORTED, f"the JPEG has more than {_MAX_SCANS} scans")
    return header


def _walk_segments(data: bytes) -> tuple[JpegHeader, int]:
    """Go from segment to segment up to the first scan: the header, and where the scan starts."""
    header: JpegHeader | None = None
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
        if marker == _SOS:
            if header is None:
                raise BadFrame(InvalidReason.CORRUPT, "the JPEG has a scan before its frame header")
            return header, end
        if 0xC0 <= marker <= 0xCF and marker not in (_DHT, _JPG, _DAC):
            if header is not None:
                raise BadFrame(InvalidReason.CORRUPT, "the JPEG has two frame headers")
            header = _read_frame_header(marker, data[at + 4 : end])
        at = end


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
