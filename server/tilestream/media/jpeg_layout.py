"""Where a JPEG's parts are: its segments, the data of its scans, its end. Nothing is decoded.

What every reader skips is skipped here: text or zeros in front, all that lies before the last start marker in
front of the tables, what is between the segments of the header, and what follows the end marker.

What is compressed is looked through for markers once, by numpy: that releases the interpreter lock, and
``bytes.count`` takes four times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilestream.media.errors import BadFrame
from tilestream.messages import InvalidReason

SOI, EOI, SOS, DQT, DHT, DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
START, END = bytes([0xFF, SOI]), bytes([0xFF, EOI])

_NO_FRAME = (DHT, 0xC8, 0xCC)  # DHT, JPG and DAC stand among the numbers of frame headers
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))  # TEM and the restart markers
_TABLES = (DQT, DHT, DRI, 0xCC)
# In front of a picture: line ends, zeros, the header of a part of a multipart answer. Anything else may be a
# file of another format with a small JPEG within.
_PREFIX = re.compile(rb"[\t\r\n\x20-\x7e\x00]{0,4096}")
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MAX_SEGMENTS = 1024  # a profile has 255 at most, Exif with a large preview some hundred
_MAX_SCANS = 64  # real files have about 10


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker FF ``marker`` with its content: bytes ``begin`` (of FF) to ``end`` of the data."""

    marker: int
    body: bytes
    begin: int
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

    def ends(self) -> npt.NDArray[np.int64]:
        """Where a scan's data may end, counted from the JPEG's begin: not at restarts and fill bytes."""
        inside = (self.codes == 0xFF) | (self.codes == 0x01) | (self.codes & 0xF8 == 0xD0)
        return self.places[~inside] + self.begin


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture within some data.

    ``header``: its segments up to that of the first scan. ``between``: the ones behind, those of further
    scans too. ``end``: where the data of the last scan ends. ``ended``: whether by an end marker.
    """

    header: tuple[Segment, ...]
    between: tuple[Segment, ...]
    markers: Markers
    end: int
    ended: bool

    @property
    def first_scan(self) -> Segment:
        """The segment before the first scan's data."""
        return self.header[-1]

    @property
    def scans(self) -> Iterator[Segment]:
        """The segment of every scan."""
        return (each for each in (*self.header, *self.between) if each.marker == SOS)


def is_frame_header(marker: int) -> bool:
    """Whether it is one of SOF0 to SOF15."""
    return 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME


def read_layout(data: bytes) -> Layout:
    """The first whole picture in ``data``. Raises :class:`BadFrame` where there is none."""
    header = tuple(_header(data))
    markers = Markers.of(data, header[-1].end)
    between, end, ended = _behind(data, header[-1].end, markers)
    if sum(each.marker == SOS for each in between) >= _MAX_SCANS:
        raise BadFrame(InvalidReason.TOO_COSTLY, f"the JPEG has more than {_MAX_SCANS} scans")
    return Layout(header, tuple(between), markers, end, ended)


def _start(data: bytes) -> int:
    """Behind the first start marker."""
    prefix = _PREFIX.match(data)
    begin = prefix.end() if prefix else 0
    if data[begin : begin + 2] != START:
        raise BadFrame(InvalidReason.NOT_JPEG, "the frame does not start like a JPEG (FF D8)")
    return begin + 2


def _header(data: bytes) -> list[Segment]:
    """The segments up to that of the first scan; what is between them is left out, as libjpeg does."""
    at, found = _start(data), list[Segment]()
    for _ in range(_MAX_SEGMENTS):
        mark = _MARKER.search(data, at)
        if mark is None:
            raise BadFrame(InvalidReason.TRUNCATED, "the JPEG ends inside its header")
        marker, at = data[mark.end() - 1], mark.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == SOI and not any(
            each.marker in _TABLES or is_frame_header(each.marker) for each in found
        ):
            found.clear()
            continue
        if marker in (SOI, EOI):
            raise BadFrame(InvalidReason.CORRUPT, f"JPEG marker FF {marker:02X} inside the header")
        segment = _segment(data, mark.start(), "its header")
        found.append(segment)
        at = segment.end
        if marker == SOS:
            return found
    raise _too_many_segments()


def _segment(data: bytes, begin: int, where: str) -> Segment:
    """The segment whose marker is at ``begin``."""
    length = int.from_bytes(data[begin + 2 : begin + 4], "big")
    end = begin + 2 + length
    if begin + 4 > len(data) or end > len(data):
        raise BadFrame(InvalidReason.TRUNCATED, f"the JPEG ends inside {where}")
    if length < 2:
        raise BadFrame(InvalidReason.CORRUPT, f"JPEG segment of length {length} at byte {begin}")
    return Segment(data[begin + 1], data[begin + 4 : end], begin, end)


def _behind(data: bytes, at: int, markers: Markers) -> tuple[list[Segment], int, bool]:
    """What follows the first scan's data, which begins at ``at``: segments, the end, whether it is marked."""
    ends, found, in_scan = markers.ends(), list[Segment](), True
    for _ in range(_MAX_SEGMENTS):
        if in_scan:
            index = int(np.searchsorted(ends, at))
            begin = int(ends[index]) if index < len(ends) else len(data)
        else:
            mark = _MARKER.search(data, at)
            begin = mark.start() if mark else len(data)
        if begin == len(data):
            return found, len(data), False
        if data[begin + 1] in (SOI, EOI):
            return found, begin, data[begin + 1] == EOI
        segment = _segment(data, begin, "a segment behind its first scan")
        found.append(segment)
        at, in_scan = segment.end, segment.marker == SOS
    raise _too_many_segments()


def _too_many_segments() -> BadFrame:
    return BadFrame(InvalidReason.TOO_COSTLY, f"the JPEG has more than {_MAX_SEGMENTS} segments")
