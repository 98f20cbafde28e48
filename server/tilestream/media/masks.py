"""Masks out: a label map to PNG with a palette, to runs, or to raw bytes.

OpenCV cannot write a PNG with a palette, and a general encoder tries filters that a label map
does not need: the writer here always takes the filter "up" (what changed since the row above),
packs two pixels into a byte where 16 labels are enough, and compresses with zlib's fastest
level. All heavy parts are numpy and zlib, which release the GIL.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]
Palette = Sequence[tuple[int, int, int]]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTER_UP = 2
_COLOR_PALETTE, _COLOR_GRAY = 3, 0
_ZLIB_LEVEL = 1


class MaskFormat(Enum):
    """How a mask is encoded; the API's MaskEncoding has the same members."""

    PNG = "png"
    RLE = "rle"
    RAW = "raw"


def encode_mask(labels: Labels, form: MaskFormat, palette: Palette) -> bytes:
    """Encode a label map, uint8 [H, W]; ``palette``: RGB of each label."""
    if form is MaskFormat.PNG:
        return encode_png(labels, palette)
    if form is MaskFormat.RLE:
        return encode_rle(labels)
    return np.ascontiguousarray(labels).tobytes()


def resize_labels(labels: Labels, width: int, height: int) -> Labels:
    """The nearest label for every pixel of another size."""
    if labels.shape == (height, width):
        return labels
    return np.asarray(
        cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8
    )


def encode_png(labels: Labels, palette: Palette | None) -> bytes:
    """A PNG with the labels as palette indices, or 8-bit gray where ``palette`` is None."""
    height, width = labels.shape
    depth = 4 if palette is not None and len(palette) <= 16 and int(labels.max(initial=0)) < 16 else 8
    color = _COLOR_GRAY if palette is None else _COLOR_PALETTE
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    rows = _pack_nibbles(labels) if depth == 4 else labels
    chunks = [_PNG_SIGNATURE, _chunk(b"IHDR", header)]
    if palette is not None:
        chunks.append(_chunk(b"PLTE", _palette_bytes(palette, int(labels.max(initial=0)))))
    chunks.append(_chunk(b"IDAT", _compress_rows(rows)))
    chunks.append(_chunk(b"IEND", b""))
    return b"".join(chunks)


def encode_rle(labels: Labels) -> bytes:
    """Runs in row-major order: LEB128 varints label, length, label, length, ..."""
    flat = np.ascontiguousarray(labels).reshape(-1)
    if not flat.size:
        return b""
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    numbers = np.empty(2 * len(starts), dtype=np.uint64)
    numbers[0::2] = flat[starts]
    numbers[1::2] = np.diff(starts, append=flat.size)
    return _varints(numbers)


def _varints(numbers: npt.NDArray[np.uint64]) -> bytes:
    """Unsigned LEB128: seven bits a byte, lowest first, the top bit says that more follow."""
    parts = []
    more = []
    rest = numbers
    while True:
        parts.append((rest & np.uint64(0x7F)).astype(np.uint8))
        rest = rest >> np.uint64(7)
        more.append(rest > 0)
        if not more[-1].any():
            break
    table = np.stack(parts, axis=1)
    going_on = np.stack(more, axis=1)
    table[going_on] |= 0x80
    used = np.ones_like(going_on)
    used[:, 1:] = going_on[:, :-1]
    return table[used].tobytes()


def _pack_nibbles(labels: Labels) -> Labels:
    """Two pixels a byte, the left one in the high half; an odd row is padded with 0."""
    height, width = labels.shape
    packed = np.zeros((height, (width + 1) // 2), dtype=np.uint8)
    np.left_shift(labels[:, 0::2], 4, out=packed)
    packed[:, : width // 2] |= labels[:, 1::2]
    return packed


def _compress_rows(rows: Labels) -> bytes:
    """PNG's IDAT: every row with its filter byte, filtered "up", deflated."""
    height, width = rows.shape
    filtered = np.empty((height, width + 1), dtype=np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    # What is left is mostly runs of zeros, for which zlib's run-length strategy is the smallest and fastest.
    deflate = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return deflate.compress(filtered.data) + deflate.flush()


def _palette_bytes(palette: Palette, highest: int) -> bytes:
    """PLTE with a colour for every label that occurs; labels beyond the palette are black."""
    entries = list(palette)[:256]
    entries += [(0, 0, 0)] * (highest + 1 - len(entries))
    return np.asarray(entries, dtype=np.uint8).tobytes()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
