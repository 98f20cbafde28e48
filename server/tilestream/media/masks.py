"""Masks out: a label map, or runs of labels, to PNG with a palette, to runs, or to raw bytes.

OpenCV cannot write a PNG with a palette, and a general encoder tries filters that a label map
does not need: the writer here always takes the filter "up" (what changed since the row above),
packs two pixels into a byte where 16 labels are enough, and compresses with ISA-L, several times
as fast as zlib. All heavy parts are numpy and ISA-L, which release the GIL.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from tilestream.label_runs import LabelRuns, label_map

Labels = npt.NDArray[np.uint8]
Palette = Sequence[tuple[int, int, int]]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTER_UP = 2
_COLOR_PALETTE, _COLOR_GRAY = 3, 0
_DEFLATE_LEVEL = 1


class MaskFormat(Enum):
    """How a mask is encoded; the API's MaskEncoding has the same members."""

    PNG = "png"
    RLE = "rle"
    RAW = "raw"


def encode_mask(labels: Labels | LabelRuns, form: MaskFormat, palette: Palette) -> bytes:
    """Encode a label map, uint8 [H, W], or its runs, to the same bytes; ``palette``: RGB of each label."""
    if form is MaskFormat.PNG:
        return encode_png(label_map(labels), palette)
    if form is MaskFormat.RLE:
        return encode_rle(labels)
    return label_map(labels).tobytes()


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
    highest = int(labels.max(initial=0)) if palette is not None else 255
    depth = 4 if palette is not None and len(palette) <= 16 and highest < 16 else 8
    color = _COLOR_GRAY if palette is None else _COLOR_PALETTE
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    rows = _pack_nibbles(labels) if depth == 4 else labels
    chunks = [_PNG_SIGNATURE, _chunk(b"IHDR", header)]
    if palette is not None:
        chunks.append(_chunk(b"PLTE", _palette_bytes(palette, highest)))
    chunks.append(_chunk(b"IDAT", _compress_rows(rows)))
    chunks.append(_chunk(b"IEND", b""))
    return b"".join(chunks)


def encode_rle(labels: Labels | LabelRuns) -> bytes:
    """Runs in row-major order, no more than needed: LEB128 varints label, length, label, length, ..."""
    runs = labels.merged() if isinstance(labels, LabelRuns) else LabelRuns.of(labels)
    numbers = np.empty(2 * len(runs.values), dtype=np.uint32)
    numbers[0::2] = runs.values
    numbers[1::2] = runs.lengths
    return _varints(numbers)


def _varints(numbers: npt.NDArray[np.uint32]) -> bytes:
    """Unsigned LEB128: seven bits a byte, lowest first, the top bit says that more follow.

    Nearly all numbers of a mask need one byte only: all get that, then the few others are inserted.
    """
    encoded = numbers.astype(np.uint8)
    places = np.flatnonzero(numbers > 0x7F)
    encoded[places] |= 0x80
    rest = numbers[places] >> np.uint32(7)
    while rest.size:
        places = places + np.arange(1, 1 + rest.size)  # of the bytes that come behind these
        low = rest.astype(np.uint8)
        more = rest > 0x7F
        low[more] |= 0x80
        encoded = _inserted(encoded, places, low)
        places, rest = places[more], rest[more] >> np.uint32(7)
    return encoded.tobytes()


def _inserted(
    encoded: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], more: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """With ``more`` in between, at ascending ``places`` of the result; ``np.insert`` takes twice as long."""
    result = np.empty(encoded.size + more.size, dtype=np.uint8)
    old = np.ones(result.size, dtype=bool)
    old[places] = False
    result[old] = encoded
    result[places] = more
    return result


def _pack_nibbles(labels: Labels) -> Labels:
    """Two pixels below 16 a byte, the left one in the high half; an odd row is padded with 0."""
    if labels.shape[1] % 2:
        labels = np.pad(labels, ((0, 0), (0, 1)))
    pairs = np.ascontiguousarray(labels).view("<u2")
    # left + 256 right, and 4096 left added: the high byte becomes 16 left + right
    return (pairs * np.uint16(0x1001) >> 8).astype(np.uint8)


def _compress_rows(rows: Labels) -> bytes:
    """PNG's IDAT: every row with its filter byte, filtered "up", deflated."""
    height, width = rows.shape
    filtered = np.empty((height, width + 1), dtype=np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return isal_zlib.compress(filtered.data, _DEFLATE_LEVEL)


def _palette_bytes(palette: Palette, highest: int) -> bytes:
    """PLTE with a colour for every label that occurs; labels beyond the palette are black."""
    entries = list(palette)[:256]
    entries += [(0, 0, 0)] * (highest + 1 - len(entries))
    return np.asarray(entries, dtype=np.uint8).tobytes()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
