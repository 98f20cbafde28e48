"""JPEGs that are not quite right: bits, bytes, segments and scans changed, left out, doubled, mixed up."""

from __future__ import annotations

import random

import cv2
import numpy as np
import simplejpeg

from support.frames import encode, photo
from support.jpegs import EOI, SOI, segment, separate_scans
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_layout import Layout, read_layout

_SAMPLINGS = (0x111111, 0x211111, 0x221111, 0x121111, 0x411111)
_FRONTS = (
    b"\r\n",
    bytes(9),
    SOI,
    SOI + bytes(3),
    b"--x\r\nContent-Type: image/jpeg\r\n\r\n",
    b"\xff",
    b"\x89PNG",
)
_MARKERS = (0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE, 0x00, 0xFF, 0x01)


class Mutator:
    """Makes them out of small pictures of every kind."""

    def __init__(self) -> None:
        image = photo(83, 61)
        gray = np.ascontiguousarray(image[..., :1])
        restarts = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_RST_INTERVAL, 3])[1].tobytes()
        profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60))
        plain = encode(image)
        self._kinds = [
            *(encode(image, sampling=sampling) for sampling in _SAMPLINGS),
            *(encode(image, progressive=True, sampling=sampling) for sampling in _SAMPLINGS[:3]),
            encode(image, quality=5),
            simplejpeg.encode_jpeg(gray, colorspace="GRAY"),
            restarts,
            separate_scans(image),
            plain[:2] + profile + segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x01") + plain[2:],
        ]
        self._layouts = [read_layout(kind) for kind in self._kinds]

    def make(self, draw: random.Random) -> bytes:
        """One, of one to four changes."""
        index = draw.randrange(len(self._kinds))
        data = self._kinds[index]
        for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
            change = draw.choice(
                (_bits, _bits, _bytes, _cut, _around, _segments, _segments, _field, _repeated)
            )
            data = change(data, draw) or data
            if len(data) < 16:
                break
        return data


def _place(data: bytes, draw: random.Random) -> int:
    """Anywhere, or in the header, where more is decided."""
    return draw.randrange(min(len(data), draw.choice((30, 700, len(data)))))


def _bits(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        changed[_place(data, draw)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _bytes(data: bytes, draw: random.Random) -> bytes:
    at, few = _place(data, draw), draw.choice((1, 2, 9, 120))
    what = draw.choice(
        (draw.randbytes(few), bytes(few), b"\xff" * few, bytes([0xFF, draw.choice(_MARKERS)]), b"")
    )
    return data[:at] + what + data[at + draw.choice((0, len(what), few)) :]


def _cut(data: bytes, draw: random.Random) -> bytes:
    at = draw.choice((_place(data, draw), len(data) - draw.randrange(1, min(9, len(data)))))
    return data[:at] + draw.choice((b"", EOI, bytes(50), bytes(50) + EOI))


def _around(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.5:
        return draw.choice(_FRONTS) + data
    return data + draw.choice((bytes(30), data, draw.randbytes(60), EOI))


def _layout(data: bytes) -> Layout | None:
    try:
        return read_layout(data)
    except BadFrame:
        return None


def _segments(data: bytes, draw: random.Random) -> bytes | None:
    """One of the segments left out, doubled, moved, or made longer or shorter than it says."""
    layout = _layout(data)
    if layout is None:
        return None
    one, other = (draw.choice((*layout.header, *layout.between)) for _ in range(2))
    text = data[one.begin : one.end]
    rest = data[: one.begin] + data[one.end :]
    length = (len(one.body) + 2 + draw.choice((-2, -1, 1, 2, 300))) % 65536
    return draw.choice(
        (
            rest,
            data[: other.begin] + text + data[other.begin :],
            rest[: other.begin] + text + rest[other.begin :],
            data[: one.begin + 2] + length.to_bytes(2, "big") + data[one.begin + 4 :],
            data[: one.begin] + bytes(draw.randint(1, 700)) + data[one.begin :],
        )
    )


def _field(data: bytes, draw: random.Random) -> bytes | None:
    """A byte of a segment that decides something."""
    layout = _layout(data)
    chosen = draw.choice((*layout.header, *layout.between)) if layout else None
    if chosen is None or not chosen.body:
        return None
    at = chosen.begin + 4 + draw.randrange(min(len(chosen.body), 24))
    return data[:at] + bytes([draw.choice((0, 1, 2, 3, 0x11, 0x22, 0x3F, 0xFF))]) + data[at + 1 :]


def _repeated(data: bytes, draw: random.Random) -> bytes | None:
    """The last scan, or everything behind the first, many times: or that part of it left out."""
    layout = _layout(data)
    if layout is None:
        return None
    scans = list(layout.scans)
    begin = draw.choice(scans).begin
    again = draw.choice((0, 1, 2, 30, 70))
    return data[:begin] + data[begin : layout.end] * again + data[layout.end :]
