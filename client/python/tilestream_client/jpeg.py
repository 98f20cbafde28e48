"""JPEG in both directions, through OpenCV (which lets other threads run meanwhile)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from tilestream_client.errors import SourceError

DEFAULT_QUALITY = 90
START = b"\xff\xd8"
_END = b"\xff\xd9"
_MAGIC = START + b"\xff"
_EXIF = b"Exif\0\0"
_TURNED = range(2, 9)  # orientations that are not the usual one
_FRONT_BYTES = 4096  # where cameras put it
MAX_SIDE = 65500  # of the JPEG format as libjpeg writes it


def is_jpeg(data: bytes) -> bool:
    """Whether ``data`` begins like a JPEG."""
    return data[:3] == _MAGIC


def encode(image: npt.NDArray[Any], quality: int = DEFAULT_QUALITY) -> bytes:
    """uint8 [H, W, 3] RGB or [H, W] gray -> JPEG. Raises SourceError for other arrays."""
    array = np.asarray(image)
    colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (colour or array.ndim == 2):
        raise SourceError(
            f"an image must be uint8 [H, W, 3] RGB (or [H, W] gray), not {array.dtype} {list(array.shape)}"
        )
    if not 1 <= min(array.shape[:2]) <= max(array.shape[:2]) <= MAX_SIDE:
        raise SourceError(f"an image of {array.shape[1]}x{array.shape[0]} pixels does not fit into a JPEG")
    # OpenCV takes colour images as BGR.
    pixels = cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_RGB2BGR) if colour else array
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise SourceError(f"an image of shape {list(array.shape)} cannot be encoded")
    return bytes(data)


def decode(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Any image file -> uint8 [H, W, 3] RGB, orientation tags not applied; None if it is none."""
    if not data:
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # for instance: more pixels than OpenCV agrees to
        return None
    return None if pixels is None else to_rgb(pixels)


def decode_frame(data: bytes) -> npt.NDArray[np.uint8] | None:
    """The same for a frame that a server took, who does without an end, and with something in front."""
    found = decode(data)
    begin = data.find(START)
    if found is not None or begin < 0:
        return found
    while data.startswith(START, begin + len(START)):
        begin += len(START)
    return decode(data[begin:] + _END)


def frame_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of such a frame, from its header where that can be had; None if it is no image."""
    try:
        with Image.open(BytesIO(data), formats=["JPEG"]) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        pixels = decode_frame(data)
        return None if pixels is None else (pixels.shape[1], pixels.shape[0])


def upright(data: bytes, quality: int = DEFAULT_QUALITY) -> bytes:
    """A JPEG as it is to be seen: turned and encoded again where an Exif tag says so, else as it is."""
    if not (is_jpeg(data) and _EXIF in data[:_FRONT_BYTES] and _orientation(data) in _TURNED):
        return data
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # which turns it
    return data if pixels is None else encode(to_rgb(pixels), quality)


def _orientation(data: bytes) -> int:
    try:
        with Image.open(BytesIO(data)) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, ValueError, SyntaxError):  # damaged: the server says what it thinks of it
        return 1


def to_rgb(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """OpenCV's uint8 [H, W, 3] BGR -> RGB."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
