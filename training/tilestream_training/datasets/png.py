"""Label images as PNG files: the stored index of every pixel, whatever colours it is shown in."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _PALETTE = 0, 3


def read_indices(path: Path) -> npt.NDArray[np.uint8] | None:
    """uint8 [H, W] of a gray or palette PNG of 1, 2, 4 or 8 bits; None where the file is anything else.

    OpenCV turns palette images into colours, and stretches gray values of fewer than 8 bits to 0..255.
    Label tools write both kinds. So the header is rewritten to say plain gray before decoding, and the
    stretch is undone.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        return None
    depth, colour_type = data[24], data[25]
    if depth > 8 or colour_type not in (_GRAY, _PALETTE):
        return None
    if colour_type == _PALETTE:
        header = data[12:25] + bytes([_GRAY]) + data[26:29]
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + _without_colours(data[33:])
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim != 2 or decoded.dtype != np.uint8:
        return None
    indices = np.asarray(decoded, dtype=np.uint8)
    return indices if depth == 8 else indices // np.uint8(255 // (2**depth - 1))


def _without_colours(chunks: bytes) -> bytes:
    """The chunks after the header, less those that only a palette image may have."""
    kept, position = [], 0
    while position + 12 <= len(chunks):
        (length,) = struct.unpack_from(">I", chunks, position)
        end = position + 12 + length
        if chunks[position + 4 : position + 8] not in (b"PLTE", b"tRNS", b"hIST", b"bKGD", b"sBIT"):
            kept.append(chunks[position:end])
        position = end
    return b"".join(kept)
