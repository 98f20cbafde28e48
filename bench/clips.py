"""Clips that benches play: JPEGs of one size, of a drawn street or from a folder, forth and back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tilestream.messages import UInt8Array
from tilestream_street import SyntheticStreet

QUALITY = 85
FRAMES = 36  # drawn: 2.4 s of a drive at 15 Hz
MOST_FRAMES = 120  # of a folder

Size = tuple[int, int]  # width, height


def parse_size(text: str) -> Size:
    """ "1280x720" -> (1280, 720)."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def load_clip(folder: Path | None, size: Size, frames: int = FRAMES) -> list[bytes]:
    """The JPEGs of ``folder`` at ``size``; without one, ``frames`` of a drawn street."""
    return drawn_clip(size, frames) if folder is None else folder_clip(folder, size)


def drawn_clip(size: Size, frames: int = FRAMES) -> list[bytes]:
    """A drive through the drawn street at 15 Hz."""
    street = SyntheticStreet(seed=7, width=size[0], height=size[1], fps=15.0)
    return [_encode(street.frame(index).image) for index in range(frames)]


def folder_clip(folder: Path, size: Size) -> list[bytes]:
    """The first JPEGs of a folder by name, encoded anew where they have another size."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"{folder} holds no JPEGs")
    return [_at_size(file.read_bytes(), size) for file in files[:MOST_FRAMES]]


def decode(jpeg: bytes) -> UInt8Array:
    """uint8 [H, W, 3] RGB; by OpenCV, as machines with a GPU may have no other decoder installed."""
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SystemExit("the clip holds a file that is no image")
    return np.ascontiguousarray(pixels[..., ::-1], np.uint8)


def place_in_clip(length: int, index: int) -> int:
    """Which of ``length`` frames is played as number ``index``: forth and back, no jump at the ends."""
    period = max(1, 2 * length - 2)
    place = index % period
    return min(place, period - place)


def _at_size(jpeg: bytes, size: Size) -> bytes:
    image = decode(jpeg)
    if image.shape[1::-1] == size:
        return jpeg
    return _encode(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def _encode(image: UInt8Array) -> bytes:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise SystemExit("a frame of the clip cannot be encoded")
    return bytes(data)
