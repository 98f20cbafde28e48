"""JPEGs of kinds that cameras make and OpenCV does not, and how OpenCV and Pillow see one."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def place(data: bytes, marker: int, last: bool = False) -> slice:
    """Of the first (or last) segment with this marker."""
    begin = (data.rindex if last else data.index)(bytes([0xFF, marker]))
    return slice(begin, begin + 2 + int.from_bytes(data[begin + 2 : begin + 4], "big"))


def with_byte(data: bytes, marker: int, offset: int, value: int) -> bytes:
    """Change a byte of the first segment with this marker, counted from its length, or back from its end."""
    at = place(data, marker)
    index = at.start + 2 + offset if offset >= 0 else at.stop + offset
    return data[:index] + bytes([value]) + data[index + 1 :]


def inserted(data: bytes, marker: int, what: bytes) -> bytes:
    """``what`` before the first segment with this marker."""
    begin = place(data, marker).start
    return data[:begin] + what + data[begin:]


def without_jfif(data: bytes) -> bytes:
    at = place(data, 0xE0)
    return data[: at.start] + data[at.stop :]


def separate_scans(image: np.ndarray, across: int = 1, down: int = 1) -> bytes:
    """A sequential JPEG with a scan of its own for each component: three gray ones put together.

    across, down: how many pixels share a sample of colour.
    """
    grays = []
    for channel in range(3):
        step = (1, 1) if channel == 0 else (down, across)
        ok, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:: step[0], :: step[1], channel]))
        assert ok
        grays.append(data.tobytes())
    first = grays[0]
    frame = first[place(first, 0xC0)]
    components = bytes([1, across << 4 | down, 0]) + bytes([2, 0x11, 0]) + bytes([3, 0x11, 0])
    made = first[: place(first, 0xC0).start] + segment(0xC0, frame[4:9] + b"\x03" + components)
    made += first[place(first, 0xC0).stop : place(first, 0xDA).start]
    for number, gray in enumerate(grays, 1):
        made += segment(0xDA, bytes([1, number, 0]) + b"\x00\x3f\x00") + gray[place(gray, 0xDA).stop : -2]
    return made + EOI


def as_opencv(data: bytes) -> np.ndarray | None:
    """uint8 [H, W, 3] RGB; None where it shows nothing."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if pixels is None else pixels[..., ::-1]


def as_pillow(data: bytes) -> np.ndarray | None:
    """The same."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
