"""Clips made on the spot by x264 and x265, as access units in Annex B."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support.fake_engine import STEP

RATE = 25  # pictures per second
ENCODERS = {"h264": "libx264", "h265": "libx265"}
LIBAV_NAMES = {"h264": "h264", "h265": "hevc"}
_PARAMS = {"h264": "x264-params", "h265": "x265-params"}
_ALWAYS = {"h264": "scenecut=0:b-adapt=0", "h265": "scenecut=0:b-adapt=0:repeat-headers=1:log-level=none"}
# What clips may be like. Of an open GOP, pictures before a key unit refer to what is before it.
STRUCTURES = {
    "closed": "bframes=0:keyint=10:min-keyint=10:open-gop=0",
    "b-pictures": "bframes=2:keyint=10:min-keyint=10:open-gop=0",
    "open": "bframes=2:keyint=11:min-keyint=11:open-gop=1",
    "refresh": "bframes=0:keyint=10:intra-refresh=1",
}


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """``shown``: which picture it is, counted as they are shown."""

    shown: int
    data: bytes


def need_encoder(codec: str) -> None:
    """Skip where this build of PyAV cannot make such clips."""
    if ENCODERS[codec] not in av.codecs_available:
        pytest.skip(f"this PyAV has no {ENCODERS[codec]}")


def encode_clip(
    images: list[np.ndarray],
    codec: str = "h264",
    params: str = STRUCTURES["closed"],
    pixels: str = "yuv420p",
    quality: int = 18,
) -> list[AccessUnit]:
    """Images uint8 [H, W, 3] as access units, in the order in which they are decoded."""
    need_encoder(codec)
    context = av.CodecContext.create(ENCODERS[codec], "w")
    context.height, context.width = images[0].shape[:2]
    context.pix_fmt, context.framerate, context.time_base = pixels, RATE, Fraction(1, RATE)
    context.options = {"preset": "ultrafast", _PARAMS[codec]: f"{params}:{_ALWAYS[codec]}:crf={quality}"}
    packets = []
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        packets += context.encode(frame)
    packets += context.encode(None)
    return [AccessUnit(packet.pts, bytes(packet)) for packet in packets]


def plain_images(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Each of one colour; the fake engine labels number n with :func:`plain_label`."""
    return [np.full((height, width, 3), STEP * plain_label(number), np.uint8) for number in range(count)]


def plain_label(number: int) -> int:
    """The fake engine's label of a plain image."""
    return 1 + number % 9


def moving_images(count: int, width: int = 192, height: int = 144) -> list[np.ndarray]:
    """Something that moves, uint8 [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    images = []
    for number in range(count):
        image = np.stack([x * 2 + number * 3, y * 2 + number * 2, x + y + number * 5], -1) % 256
        left = 4 * number % max(1, width - 40)
        image[height // 3 : height // 2, left : left + 30] = 255
        images.append(image.astype(np.uint8))
    return images


def damaged(data: bytes, share: float = 0.5) -> bytes:
    """The unit with some bytes changed in its middle."""
    changed = bytearray(data)
    begin = round(len(changed) * share)
    for at in range(begin, min(len(changed), begin + 6)):
        changed[at] ^= 0x5A
    return bytes(changed)


def write_clip(
    path: Path,
    images: list[np.ndarray],
    codec: str = "h264",
    params: str = STRUCTURES["closed"],
    pixels: str = "yuv420p",
    times: list[int] | None = None,
) -> Path:
    """A video file of these images, in the format of its name. ``times``: of the images, milliseconds."""
    need_encoder(codec)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(ENCODERS[codec], rate=RATE)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.options = {"preset": "ultrafast", _PARAMS[codec]: f"{params}:{_ALWAYS[codec]}:crf=18"}
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.time_base = Fraction(1, 1000)
            frame.pts = times[number] if times else number * 1000 // RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


_MATRICES = {  # of a track's header: a, b, c, d in 16.16
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def turn_clip(path: Path, rotation: int) -> None:
    """Have an MP4 say that its pictures are to be turned so many degrees clockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (part << 16 for part in _MATRICES[rotation])
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
