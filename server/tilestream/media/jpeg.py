"""JPEG in: bytes of a camera to an RGB image at the size the network computes at.

Two libraries decode, both are libjpeg-turbo with the accurate settings and give the same pixels:
the system's (through PyTurboJPEG) where it is installed, or the one bundled in simplejpeg. Both
release the GIL. Both are asked to be strict about what ``jpeg_damage`` lists.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_damage import reason_for
from tilestream.media.jpeg_header import JpegHeader, read_header
from tilestream.media.jpeg_layout import END
from tilestream.media.jpeg_plain import is_plain
from tilestream.messages import Codec, InvalidReason, Picture

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Decode = Callable[[bytes, int, int, int], Image]  # (data, width, height, denominator of the scale)

_ERROR_CODE = "_TurboJPEG__get_error_code"  # a private attribute of PyTurboJPEG 1.x
_SCALES = (8, 4, 2)  # the ones with fast code in libjpeg-turbo, coarsest first
_SCALED_MIN_SIDE = 64  # smaller frames are not worth it
_PADDED = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """The largest frame that is decoded: bytes, pixels (width * height), longest side, seconds of a core.

    Seconds are estimated from the header, alike on every machine (``jpeg_scans.decoding_seconds``).
    """

    max_bytes: int
    max_pixels: int
    max_side: int
    max_seconds: float = 0.5  # twice what the dearest sensible frame costs: progressive, 3840x2160, 4:4:4


def fit_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) scaled down, keeping the shape, to at most ``max_pixels`` pixels.

    Scaled sizes are multiples of 8 where that is possible: they suit every network's stride.
    """
    if width * height <= max_pixels:
        return width, height
    factor = math.sqrt(max_pixels / (width * height))
    step = 8 if min(width, height) * factor >= 8 else 1
    return (
        max(step, int(width * factor) // step * step),
        max(step, int(height * factor) // step * step),
    )


def read_picture(
    data: bytes, limits: FrameLimits, compute_size: tuple[int, int] | None, max_compute_pixels: int
) -> Picture:
    """A camera's JPEG, not decoded, for ``compute_size`` (width, height; None: its own, within the limit).

    Raises :class:`BadFrame` with the reason where its header tells that it cannot be used.
    """
    return _picture(_checked_header(data, limits), compute_size, max_compute_pixels)


def picture_for(
    takes: tuple[Codec, ...],
    data: bytes,
    limits: FrameLimits,
    compute_size: tuple[int, int] | None,
    max_compute_pixels: int,
    verify: bool = True,
) -> Picture:
    """The same for an engine that takes these codecs: decoded, unless the engine does that.

    Unusual pictures are decoded for every engine: it might refuse them, or see them otherwise. ``verify``:
    look for damage in what the engine will decode. Raises :class:`BadFrame` as :func:`decode_picture` does.
    """
    header = _checked_header(data, limits)
    picture = _picture(header, compute_size, max_compute_pixels)
    if picture.codec not in takes or not is_plain(header):
        return _decoded(picture, header)
    if verify:  # at the coarsest scale: nearly all of the time goes into what cannot be left out
        size = picture.width, picture.height
        decode_jpeg(header.data, *size, _SCALES[0] if min(size) >= _SCALED_MIN_SIDE else 1)
    return picture


def _checked_header(data: bytes, limits: FrameLimits) -> JpegHeader:
    if len(data) > limits.max_bytes:
        raise BadFrame(
            InvalidReason.TOO_MANY_BYTES, f"{len(data)} bytes, at most {limits.max_bytes} are taken"
        )
    header = read_header(data)
    width, height = header.width, header.height
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise BadFrame(
            InvalidReason.TOO_MANY_PIXELS,
            f"{width} x {height} pixels, at most {limits.max_pixels} pixels "
            f"and {limits.max_side} a side are taken",
        )
    if header.seconds > limits.max_seconds:
        raise BadFrame(
            InvalidReason.TOO_COSTLY,
            f"decoding would take a core about {header.seconds:.2g} s, at most {limits.max_seconds:g} are "
            "spent on a frame; send fewer scans (not progressive) or fewer pixels",
        )
    return header


def _picture(header: JpegHeader, compute_size: tuple[int, int] | None, max_compute_pixels: int) -> Picture:
    width, height = header.width, header.height
    compute = compute_size or fit_size(width, height, max_compute_pixels)
    return Picture(width, height, compute, data=header.data)


def decode_picture(picture: Picture) -> Picture:
    """The picture with pixels in place of its data. Raises :class:`BadFrame` if it is damaged."""
    return _decoded(picture, read_header(bytes(picture.data)))


def _decoded(picture: Picture, header: JpegHeader) -> Picture:
    size = picture.width, picture.height
    # What lies behind bits that no scan has is guessed, otherwise by every release; this one's is the newest.
    decode = _decode if header.complete else _bundled
    try:
        image = _decode_with(decode, header.data, *size, _coarsest_scale(size, picture.compute))
    except BadFrame as bad:
        if header.ended or bad.failure.reason is not InvalidReason.TRUNCATED:
            raise
        text = f"the JPEG ends before its end marker (FF D9), and not all of it is there: {bad}"
        raise BadFrame(InvalidReason.TRUNCATED, text) from bad
    return replace(picture, pixels=resize_image(image, picture.compute), data=b"")


def decode_jpeg(data: bytes, width: int, height: int, denominator: int = 1) -> Image:
    """Decode a JPEG of the given size to RGB at 1/denominator. Raises :class:`BadFrame` if it is damaged."""
    return _decode_with(_decode, data, width, height, denominator)


def _decode_with(decode: Decode, data: bytes, width: int, height: int, denominator: int) -> Image:
    try:
        return decode(data, width, height, denominator)
    except (ValueError, OSError, MemoryError) as error:
        text = str(error)
    if padding := _padding(text, data):  # what was decoded is whole, but libraries keep it to themselves
        return _decode_with(decode, data[: -len(END) - padding] + END, width, height, denominator)
    if "subsampling" in text.lower():
        if decode is not _bundled:  # newer, it knows more of them
            return _decode_with(_bundled, data, width, height, denominator)
        raise BadFrame(InvalidReason.UNSUPPORTED, f"JPEG of a rare kind is not taken: {text}")
    raise BadFrame(reason_for(text), f"the JPEG is damaged: {text}")


def _padding(text: str, data: bytes) -> int:
    """How many zeros lie between a whole picture and its end marker, by what a decoder says; 0: none.

    Small cameras send all of their buffer.
    """
    surplus = _PADDED.search(text)
    count = int(surplus[1]) if surplus else 0
    return count if data.endswith(bytes(count) + END) else 0


def _coarsest_scale(size: tuple[int, int], target: tuple[int, int]) -> int:
    """The largest reduction (1, 2, 4, 8) that leaves at least the target's size."""
    if min(size) < _SCALED_MIN_SIDE:
        return 1
    for scale in _SCALES:
        if all(math.ceil(have / scale) >= want for have, want in zip(size, target, strict=True)):
            return scale
    return 1


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """uint8 [H, W, 3] at another (width, height)."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = size[0] * size[1] < width * height
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), dtype=np.uint8
    )


def bundled_decoder() -> Decode:
    """The libjpeg-turbo inside simplejpeg."""

    def decode(data: bytes, width: int, height: int, denominator: int) -> Image:
        return simplejpeg.decode_jpeg(
            data,
            "RGB",
            fastdct=False,
            fastupsample=False,
            min_width=math.ceil(width / denominator),
            min_height=math.ceil(height / denominator),
            min_factor=1.0,
            strict=True,
        )

    return decode


def system_decoder() -> Decode | None:
    """The system's libturbojpeg, or None where it (or PyTurboJPEG) is not installed."""
    try:
        import turbojpeg

        library = turbojpeg.TurboJPEG()
    except (ImportError, RuntimeError, OSError) as error:
        log.debug("no libturbojpeg of the system: %s", error)
        return None
    # Without the library's error code PyTurboJPEG raises for warnings too, which is what strict means
    # here; with it, it calls warnings.warn() and hands out a half gray image.
    if not hasattr(library, _ERROR_CODE):
        log.warning("this PyTurboJPEG cannot be made strict; using the library of simplejpeg")
        return None
    setattr(library, _ERROR_CODE, None)

    def decode(data: bytes, width: int, height: int, denominator: int) -> Image:
        scale = (1, denominator) if denominator > 1 else None
        return library.decode(data, pixel_format=turbojpeg.TJPF_RGB, scaling_factor=scale)

    return decode


_bundled: Decode = bundled_decoder()
_decode: Decode = system_decoder() or _bundled
