"""Annex B: NAL units with a start code before each."""

from __future__ import annotations

from tilestream.media.errors import BadFrame
from tilestream.messages import InvalidReason

START = b"\0\0\1"
MAX_NAL_UNITS = 512
"""Of one access unit. The largest pictures that are cut into a slice per row of macroblocks have 280."""


def nal_units(data: bytes) -> list[bytes]:
    """The NAL units of an access unit, without start codes.

    Raises :class:`BadFrame` where it is empty, does not begin with a start code, or has too many of them.
    """
    if not data:
        raise BadFrame(InvalidReason.EMPTY, "the frame has no data")
    if data.lstrip(b"\0")[:1] != b"\1" or not data.startswith(b"\0\0"):
        text = "no access unit in Annex B: it does not begin with a start code (00 00 01)"
        hint = "; the length-prefixed units of MP4 and MKV files have to be converted"
        raise BadFrame(InvalidReason.NOT_JPEG, text + hint)
    if data.count(START) > MAX_NAL_UNITS:
        text = f"{data.count(START)} NAL units in one access unit, at most {MAX_NAL_UNITS} are taken"
        raise BadFrame(InvalidReason.TOO_COSTLY, text)
    return [unit for unit in (part.rstrip(b"\0") for part in data.split(START)) if unit]
