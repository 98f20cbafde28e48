"""H.264's video usability information (annex E), as far as to how many pictures are held back."""

from __future__ import annotations

from tilestream.media.video.bits import Bits, OutOfBits

_OWN_RATIO = 255  # aspect_ratio_idc of one that is told by two numbers
_MAX_BUFFERS = 32


def read_reordered(bits: Bits) -> int | None:
    """max_num_reorder_frames: pictures that may come before one that is shown before them; None: not told.

    ``bits``: from vui_parameters_present_flag on.
    """
    try:
        return _read(bits)
    except OutOfBits:
        return None  # cameras get this wrong, and nothing else hangs on it


def _read(bits: Bits) -> int | None:
    if not bits.flag():
        return None
    if bits.flag() and bits.u(8) == _OWN_RATIO:
        bits.u(32)
    if bits.flag():  # overscan
        bits.u(1)
    if bits.flag():  # video signal type
        bits.u(4)
        if bits.flag():
            bits.u(24)
    if bits.flag():  # chroma location
        bits.ue()
        bits.ue()
    if bits.flag():  # timing
        bits.u(65)
    buffers = [_skip_buffers(bits) for _ in range(2)]
    if any(buffers):
        bits.u(1)
    bits.u(1)
    if not bits.flag():
        return None
    bits.u(1)
    for _ in range(4):
        bits.ue()
    return bits.ue()


def _skip_buffers(bits: Bits) -> bool:
    """The parameters of a hypothetical decoder; whether there were any."""
    if not bits.flag():
        return False
    count = 1 + bits.ue()
    if count > _MAX_BUFFERS:
        raise OutOfBits("too many buffers")
    bits.u(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.u(1)
    bits.u(20)
    return True
