"""What the headers of an access unit say, whichever codec it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tilestream.media.errors import BadFrame
from tilestream.media.video.annexb import START
from tilestream.media.video.bits import Bits, OutOfBits, unescaped
from tilestream.messages import InvalidReason

HEADER_BYTES = 64
"""Of a slice or a picture parameter set: what is read of them is far less."""

SET_BYTES = 4096
"""Of a parameter set: none is nearly as long."""

_Set = TypeVar("_Set")


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """A sequence parameter set. ``width``, ``height``: pixels, cropped. ``coded_pixels``: as they are coded.

    ``bytes_per_pixel``: of all planes of a decoded picture. ``references``: pictures that a decoder keeps.
    ``reordered``: pictures that may come before one that is shown before them, at most.
    """

    width: int
    height: int
    coded_pixels: int
    bytes_per_pixel: float
    references: int
    reordered: int


@dataclass(frozen=True, slots=True)
class UnitHeader:
    """An access unit. ``sequence``: what its picture refers to; None where that has not come yet.

    ``sequences``: the parameter sets within. ``pictures``: how many begin in it, both fields of an interlaced
    one. ``begins``: decoding can begin with it. ``refreshes``: with a picture that is whole at once, and so
    are all later ones. ``coverage``: how many pictures its slices may code anew. ``gap``: a unit before it,
    which others refer to, is missing. ``leading``: it is shown before the unit that decoding began with, and
    may refer to what came before that. ``order``: when it is shown, counted round (H.264 alone).
    """

    sequence: SequenceHeader | None
    sequences: tuple[SequenceHeader, ...]
    pictures: int
    begins: bool
    refreshes: bool
    coverage: float
    gap: bool = False
    leading: bool = False
    order: int = 0


def unreadable(what: str, error: Exception) -> BadFrame:
    """A header that makes no sense."""
    return BadFrame(InvalidReason.CORRUPT, f"the {what} is damaged: {error}")


def read_set(
    what: str, unit: bytes, payload: bytes, most: int, read: Callable[[Bits], tuple[int, _Set]]
) -> tuple[int, _Set]:
    """A parameter set's number, below ``most``, and what it says. ``payload``: the part of ``unit`` to read.

    Raises :class:`BadFrame` where it is damaged.
    """
    try:
        number, found = read(Bits(unescaped(payload)))
    except OutOfBits as error:
        raise unreadable(f"{what} parameter set", error) from error
    if number >= most or len(unit) > SET_BYTES:
        raise unreadable(f"{what} parameter set", OutOfBits("it is too long, or its number too high"))
    return number, found


def read_picture_set(bits: Bits) -> tuple[int, int]:
    """A picture parameter set: its number, and that of the sequence it refers to."""
    return bits.ue(), bits.ue()


def plane_bytes(chroma_format: int, depth: int) -> float:
    """Bytes per pixel of a decoded picture; chroma_format: 0 gray, 1 4:2:0, 2 4:2:2, 3 4:4:4."""
    return (1.0, 1.5, 2.0, 3.0)[min(chroma_format, 3)] * (2 if depth > 8 else 1)


class ParameterSets:
    """The latest parameter sets of a stream as they came, for a decoder that begins later than they did."""

    def __init__(self) -> None:
        self._sets: dict[tuple[int, int], bytes] = {}

    def keep(self, kind: int, number: int, unit: bytes) -> None:
        """``kind``: in the order in which decoders need them. ``number``: the set's id."""
        self._sets[kind, number] = START + unit

    def joined(self) -> bytes:
        """All of them, in Annex B."""
        return b"".join(self._sets[key] for key in sorted(self._sets))
