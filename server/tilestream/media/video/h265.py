"""H.265 (ITU-T H.265, 7.3): the headers that tell what a unit is. What is missing its decoder tells."""

from __future__ import annotations

from tilestream.media.video.bits import Bits, OutOfBits, unescaped
from tilestream.media.video.headers import (
    HEADER_BYTES,
    SET_BYTES,
    ParameterSets,
    SequenceHeader,
    UnitHeader,
    plane_bytes,
    read_picture_set,
    read_set,
    unreadable,
)

_SLICES = range(32)
_RASL = (8, 9)  # shown before the picture that is decoded before them, and referring to what is before that
_BEGIN = range(16, 24)  # IDR, CRA, BLA: intra random access points
_IDR = (19, 20)
_VPS, _SPS, _PPS = 32, 33, 34
_MAX_SEQUENCES = 16
_MAX_SETS = 64


class H265Headers:
    """The headers of one stream, unit by unit, in the order in which they are decoded."""

    def __init__(self) -> None:
        self._sequences: dict[int, SequenceHeader] = {}
        self._sets = ParameterSets()
        self._pictures: dict[int, int] = {}  # the sequence of a picture parameter set, by their ids
        self._leads = False  # decoding began with the latest random access point

    def read(self, units: list[bytes]) -> UnitHeader:
        """What the NAL units of an access unit say. Raises :class:`BadFrame` for damaged headers."""
        sequences = []
        slices = [unit for unit in units if _kind(unit) in _SLICES and not _layer(unit) and len(unit) > 2]
        for unit in units:
            if len(unit) < 3 or _layer(unit):
                continue
            if _kind(unit) == _SPS:
                sequences.append(self._add_sequence(unit))
            elif _kind(unit) == _PPS:
                self._add_picture(unit)
            elif _kind(unit) == _VPS and len(unit) <= SET_BYTES:
                self._sets.keep(_VPS, unit[2] >> 4, unit)
        kinds = {_kind(unit) for unit in slices}
        begins = bool(kinds) and all(kind in _BEGIN for kind in kinds)
        if begins:
            self._leads = False
        return UnitHeader(
            sequence=self._sequence_of(slices[0]) if slices else None,
            sequences=tuple(sequences),
            pictures=max(int(bool(slices)), sum(unit[2] >> 7 for unit in slices)),
            begins=begins,
            refreshes=bool(kinds) and all(kind in _IDR for kind in kinds),
            coverage=float(len(slices)),
            leading=self._leads and bool(kinds & set(_RASL)),
        )

    def parameter_sets(self) -> bytes:
        """Those that have come so far, in Annex B."""
        return self._sets.joined()

    def begin(self, unit: UnitHeader) -> None:
        """Decoding begins (again) with ``unit``, the latest that was read."""
        self._leads = not unit.refreshes

    def _add_sequence(self, unit: bytes) -> SequenceHeader:
        payload = unit[2:SET_BYTES]
        number, header = read_set("sequence", unit, payload, _MAX_SEQUENCES, _read_sequence)
        self._sequences[number] = header
        self._sets.keep(_SPS, number, unit)
        return header

    def _add_picture(self, unit: bytes) -> None:
        payload = unit[2:HEADER_BYTES]
        number, sequence = read_set("picture", unit, payload, _MAX_SETS, read_picture_set)
        self._pictures[number] = sequence
        self._sets.keep(_PPS, number, unit)

    def _sequence_of(self, unit: bytes) -> SequenceHeader | None:
        bits = Bits(unescaped(unit[2:HEADER_BYTES]))
        try:
            bits.u(2 if _kind(unit) in _BEGIN else 1)
            return self._sequences.get(self._pictures.get(bits.ue(), -1))
        except OutOfBits as error:
            raise unreadable("slice's header", error) from error


def _kind(unit: bytes) -> int:
    return (unit[0] >> 1) & 63


def _layer(unit: bytes) -> int:
    return ((unit[0] & 1) << 5 | unit[1] >> 3) if len(unit) > 1 else 0


def _read_sequence(bits: Bits) -> tuple[int, SequenceHeader]:
    bits.u(4)
    sub_layers = bits.u(3)
    bits.u(1)
    _skip_profile(bits, sub_layers)
    number, chroma = bits.ue(), bits.ue()
    if chroma == 3:
        bits.u(1)
    width, height = bits.ue(), bits.ue()
    if max(width, height) > 1 << 20:
        raise OutOfBits("a number of a header is too large")
    left = right = top = bottom = 0
    if bits.flag():
        left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
    depth = 8 + max(bits.ue(), bits.ue())
    bits.ue()
    references = reordered = 0
    for _ in range(sub_layers + 1 if bits.flag() else 1):
        references = max(references, 1 + bits.ue())
        reordered = max(reordered, bits.ue())
        bits.ue()
    unit_x, unit_y = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1)
    shown = width - unit_x * (left + right), height - unit_y * (top + bottom)
    return number, SequenceHeader(*shown, width * height, plane_bytes(chroma, depth), references, reordered)


def _skip_profile(bits: Bits, sub_layers: int) -> None:
    bits.u(96)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    if sub_layers:
        bits.u(2 * (8 - sub_layers))
    for profile, level in present:
        bits.u(88 * profile + 8 * level)
