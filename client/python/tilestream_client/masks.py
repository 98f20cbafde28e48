"""Label masks to and from their encodings. No gRPC: plain bytes and arrays."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from tilestream_client.errors import MaskError

UInt8Array = npt.NDArray[np.uint8]

_MAX_VARINT_BYTES = 5  # enough for a run of 2**35 pixels, and no shift leaves 64 bits


def decode_png(data: bytes, width: int, height: int) -> UInt8Array:
    """Palette or gray PNG -> uint8 [height, width] of palette indices or gray values.

    Raises MaskError where it is damaged, of another kind or of another size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in ("P", "L"):
                raise MaskError(f"the PNG is of mode {image.mode}, not palette or 8-bit gray")
            _check_size(image.size, width, height)
            return np.array(image, dtype=np.uint8)
    except MaskError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged data
        raise MaskError(f"the PNG cannot be decoded: {error}") from error


def encode_png(labels: UInt8Array, palette: UInt8Array) -> bytes:
    """uint8 [H, W] labels and a uint8 [256, 3] RGB palette -> palette PNG."""
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def decode_rle(data: bytes, width: int, height: int) -> UInt8Array:
    """LEB128 pairs label, length, ... -> uint8 [height, width]. Raises MaskError where they do not add up."""
    numbers = decode_varints(data)
    if numbers.size % 2:
        raise MaskError("the run lengths end within a pair")
    labels, lengths = numbers[0::2], numbers[1::2]
    if labels.size and (int(labels.max()) > 255 or int(lengths.min()) < 1):
        raise MaskError("a run has a label above 255 or no pixels")
    # Checked one by one before they are added up: a few forged bytes must not wrap around to fit.
    pixels = width * height
    if (lengths.size and int(lengths.max()) > pixels) or int(lengths.sum()) != pixels:
        raise MaskError(f"the runs do not add up to {width}x{height} pixels")
    return np.repeat(labels.astype(np.uint8), lengths.astype(np.int64)).reshape(height, width)


def decode_varints(data: bytes) -> npt.NDArray[np.uint64]:
    """Unsigned LEB128 numbers, one after the other -> uint64 [n], without a Python loop over them."""
    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        return np.empty(0, np.uint64)
    ends = np.flatnonzero(raw < 0x80)
    if not ends.size or ends[-1] != raw.size - 1:
        raise MaskError("the run lengths end within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    if int(sizes.max()) > _MAX_VARINT_BYTES:
        raise MaskError("a run length is too large")
    place = (np.arange(raw.size) - np.repeat(starts, sizes)).astype(np.uint64)
    parts = (raw & 0x7F).astype(np.uint64) << (np.uint64(7) * place)
    return np.add.reduceat(parts, starts)


def decode_raw(data: bytes, width: int, height: int) -> UInt8Array:
    """One byte per pixel, row by row -> uint8 [height, width]."""
    if len(data) != width * height:
        raise MaskError(f"{len(data)} bytes are not a mask of {width}x{height} pixels")
    return np.frombuffer(data, np.uint8).reshape(height, width).copy()


def decode_coco_rle(data: bytes, width: int, height: int) -> UInt8Array:
    """COCO's compressed run lengths ("counts") -> uint8 [height, width], 1 inside.

    Raises MaskError where they do not add up.
    """
    counts = _coco_counts(data)
    if min(counts, default=-1) < 0 or sum(counts) != width * height:
        raise MaskError(f"the COCO run lengths do not add up to {width}x{height} pixels")
    inside = np.arange(len(counts)) % 2
    flat = np.repeat(inside.astype(np.uint8), counts)
    return np.ascontiguousarray(flat.reshape(width, height).T)  # by columns


def _coco_counts(data: bytes) -> list[int]:
    """Five bits a character, lowest first; from the fourth on, differences to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for character in data:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 40:
            raise MaskError("the COCO run lengths are damaged")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (bits & 0x10) << (shift - 4)  # the sign: -1 << shift where the high bit is set
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise MaskError("the COCO run lengths end within a number")
    return counts


def _check_size(size: tuple[int, int], width: int, height: int) -> None:
    if size != (width, height):
        raise MaskError(f"the PNG is {size[0]}x{size[1]}, announced were {width}x{height}")
