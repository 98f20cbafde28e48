"""Access units of H.264 and H.265 in Annex B: which ones a decoder can begin with."""

from __future__ import annotations

from collections.abc import Iterator

from tilestream_client.config import FrameCodec

START = b"\0\0\1"
_IDR, _SEI, _SLICES = 5, 6, (1, 5)  # of H.264
_RECOVERY_POINT = 6
_RANDOM_ACCESS = range(16, 24)  # of H.265
_H264_SETS, _H265_SETS = (7, 8), (32, 33, 34)
_FRONT = 4096  # bytes of a message in front of a picture that are looked at


def is_key_unit(codec: FrameCodec, data: bytes) -> bool:
    """Whether decoding can begin with this unit: an IDR, a recovery point, a random access point."""
    if codec is FrameCodec.H265:
        return any(kind in _RANDOM_ACCESS for kind, _ in nal_units(codec, data))
    recovery = False
    for kind, begin in nal_units(codec, data):
        if kind in _SLICES:
            return kind == _IDR or recovery
        recovery = recovery or (kind == _SEI and _is_recovery_point(data[begin + 1 : begin + _FRONT]))
    return False


def parameter_sets(codec: FrameCodec, data: bytes) -> bytes:
    """Those in a unit, in Annex B: what pictures' headers are read with."""
    wanted = _H265_SETS if codec is FrameCodec.H265 else _H264_SETS
    found = list(nal_units(codec, data))
    ends = [begin - len(START) for _, begin in found[1:]] + [len(data)]
    parts = [data[begin:end] for (kind, begin), end in zip(found, ends, strict=True) if kind in wanted]
    return b"".join(START + part for part in parts)


def nal_units(codec: FrameCodec, data: bytes) -> Iterator[tuple[int, int]]:
    """Kind and begin (of the header, behind the start code) of each NAL unit."""
    at = data.find(START)
    while at >= 0 and at + len(START) < len(data):
        begin = at + len(START)
        yield (data[begin] >> 1) & 63 if codec is FrameCodec.H265 else data[begin] & 31, begin
        at = data.find(START, begin)


def _is_recovery_point(message: bytes) -> bool:
    at = 0
    while at + 2 < len(message) and message[at : at + len(START)] != START:
        if message[at] == _RECOVERY_POINT:
            return True
        at += 1
        size = 0
        while at < len(message) and message[at] == 0xFF:
            size, at = size + 0xFF, at + 1
        at += 1 + size + (message[at] if at < len(message) else 0)
    return False
