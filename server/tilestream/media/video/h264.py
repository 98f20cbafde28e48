"""H.264 (ITU-T H.264, 7.3): the headers that tell what a unit is, and whether one before it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from tilestream.media.errors import BadFrame
from tilestream.media.video.bits import Bits, OutOfBits, unescaped
from tilestream.media.video.h264_vui import read_reordered
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
from tilestream.messages import InvalidReason

_SLICE, _IDR, _SEI, _SPS, _PPS = 1, 5, 6, 7, 8
_PARTITIONS = (2, 3, 4)
_RECOVERY_POINT = 6
_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles whose set tells it
_MOST_REORDERED = 16  # by the standard
_SEI_BYTES = 1 << 16
_SEI_MESSAGES = 64
_MAX_SEQUENCES = 32
_MAX_SETS = 256  # of parameters that are kept: the ids that there are


@dataclass(frozen=True, slots=True)
class _Sequence:
    """``header`` and what is needed to read slices."""

    header: SequenceHeader
    separate_planes: bool
    frame_number_bits: int
    order_bits: int  # of pic_order_cnt_lsb; 0: pictures are shown in the order in which they are coded
    gaps_allowed: bool
    frames_only: bool
    blocks: int  # macroblocks of a frame


@dataclass(frozen=True, slots=True)
class _Slice:
    first_block: int
    sequence: _Sequence
    frame_number: int
    order: int  # pic_order_cnt_lsb


class H264Headers:
    """The headers of one stream, unit by unit, in the order in which they are decoded."""

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._sets = ParameterSets()
        self._pictures: dict[int, int] = {}  # the sequence of a picture parameter set, by their ids
        self._before: int | None = None  # frame_num of the reference picture before
        self._begun_at: int | None = (
            None  # order of the picture decoding began with, while leading ones may come
        )

    def read(self, units: list[bytes]) -> UnitHeader:
        """What the NAL units of an access unit say. Raises :class:`BadFrame` for damaged headers."""
        sequences = []
        slices: list[_Slice] = []
        recovery = idr = reference = False
        coverage, missing = 0.0, False
        for unit in units:
            kind = unit[0] & 31
            if kind == _SPS:
                sequences.append(self._add_sequence(unit))
            elif kind == _PPS:
                self._add_picture(unit)
            elif kind == _SEI:
                recovery = recovery or _tells_recovery_point(unit)
            elif kind in _PARTITIONS:
                raise BadFrame(InvalidReason.UNSUPPORTED, "data partitions (extended profile) are not taken")
            elif kind in (_SLICE, _IDR):
                idr, reference = idr or kind == _IDR, reference or bool(unit[0] & 0x60)
                found = self._slice(unit)
                if found is None:
                    missing = True
                    continue
                slices.append(found)
                coverage += 1.0 - min(1.0, found.first_block / found.sequence.blocks)
        first = slices[0] if slices else None
        return UnitHeader(
            sequence=first.sequence.header if first and not missing else None,
            sequences=tuple(sequences),
            pictures=sum(one.first_block == 0 for one in slices) or int(bool(slices) or missing),
            begins=idr or (recovery and bool(slices)),
            refreshes=idr,
            coverage=coverage,
            gap=first is not None and self._gap(first, idr, reference),
            leading=first is not None and self._leads(first),
            order=first.order if first is not None else 0,
        )

    def parameter_sets(self) -> bytes:
        """Those that have come so far, in Annex B."""
        return self._sets.joined()

    def begin(self, unit: UnitHeader) -> None:
        """Decoding begins (again) with ``unit``, the latest that was read."""
        self._begun_at = None if unit.refreshes else unit.order

    def _gap(self, first: _Slice, idr: bool, reference: bool) -> bool:
        before, number = self._before, first.frame_number
        if reference:
            self._before = number
        if idr or before is None or first.sequence.gaps_allowed:
            return False
        return number not in (before, (before + 1) % (1 << first.sequence.frame_number_bits))

    def _leads(self, first: _Slice) -> bool:
        if self._begun_at is None or not first.sequence.order_bits:
            return False
        half = 1 << (first.sequence.order_bits - 1)
        leads = (first.order - self._begun_at) % (2 * half) >= half
        if not leads and first.order != self._begun_at:
            self._begun_at = None  # all that come now are shown later
        return leads

    def _add_sequence(self, unit: bytes) -> SequenceHeader:
        payload = unit[1:SET_BYTES]
        number, sequence = read_set("sequence", unit, payload, _MAX_SEQUENCES, _read_sequence)
        self._sequences[number] = sequence
        self._sets.keep(_SPS, number, unit)
        return sequence.header

    def _add_picture(self, unit: bytes) -> None:
        payload = unit[1:HEADER_BYTES]
        number, sequence = read_set("picture", unit, payload, _MAX_SETS, read_picture_set)
        self._pictures[number] = sequence
        self._sets.keep(_PPS, number, unit)

    def _slice(self, unit: bytes) -> _Slice | None:
        """The begin of a slice's header; None where its parameter sets have not come."""
        bits = Bits(unescaped(unit[1:HEADER_BYTES]))
        try:
            first, _, picture = bits.ue(), bits.ue(), bits.ue()
            sequence = self._sequences.get(self._pictures.get(picture, -1))
            if sequence is None:
                return None
            if sequence.separate_planes:
                bits.u(2)
            number = bits.u(sequence.frame_number_bits)
            field = not sequence.frames_only and bits.flag()
            if field:
                bits.u(1)
            if unit[0] & 31 == _IDR:
                bits.ue()
            order = bits.u(sequence.order_bits)
        except OutOfBits as error:
            raise unreadable("slice's header", error) from error
        return _Slice(first, sequence, number, order)


def _read_sequence(bits: Bits) -> tuple[int, _Sequence]:
    profile = bits.u(8)
    bits.u(16)
    number = bits.ue()
    chroma, depth, separate = 1, 8, False
    if profile in _WITH_CHROMA:
        chroma = bits.ue()
        separate = chroma == 3 and bits.flag()
        depth = 8 + max(bits.ue(), bits.ue())
        bits.u(1)
        if bits.flag():
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    frame_number_bits = 4 + bits.ue()
    order_bits = _read_order_bits(bits)
    references, gaps_allowed = bits.ue(), bits.flag()
    columns, rows, frames_only = 1 + bits.ue(), 1 + bits.ue(), bits.flag()
    if max(frame_number_bits, order_bits) > 16 or max(columns, rows) > 1 << 16:
        raise OutOfBits("a number of a header is too large")
    if not frames_only:
        rows *= 2
        bits.u(1)
    bits.u(1)
    crop_x = crop_y = 0
    if bits.flag():
        crop_x, crop_y = bits.ue() + bits.ue(), bits.ue() + bits.ue()
    reordered = read_reordered(bits) if order_bits else 0
    unit_x = 2 if chroma in (1, 2) else 1
    unit_y = (2 if chroma == 1 else 1) * (1 if frames_only else 2)
    header = SequenceHeader(
        16 * columns - unit_x * crop_x,
        16 * rows - unit_y * crop_y,
        256 * columns * rows,
        plane_bytes(chroma, depth),
        references,
        min(_MOST_REORDERED, _MOST_REORDERED if reordered is None else reordered),
    )
    return number, _Sequence(
        header, separate, frame_number_bits, order_bits, gaps_allowed, frames_only, columns * rows
    )


def _read_order_bits(bits: Bits) -> int:
    kind = bits.ue()
    if kind == 0:
        return 4 + bits.ue()
    if kind == 1:
        bits.u(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    return 0


def _skip_scaling_lists(bits: Bits, count: int) -> None:
    for index in range(count):
        if bits.flag():
            last = following = 8
            for _ in range(16 if index < 6 else 64):
                if following:
                    following = (last + bits.se()) % 256
                last = following or last


def _tells_recovery_point(unit: bytes) -> bool:
    """Whether supplemental information says that decoding may begin here."""
    payload, at = unescaped(unit[1:_SEI_BYTES]), 0
    for _ in range(_SEI_MESSAGES):
        if at + 2 >= len(payload):
            break
        kind, at = _read_sei_number(payload, at)
        size, at = _read_sei_number(payload, at)
        if kind == _RECOVERY_POINT:
            return True
        at += size
    return False


def _read_sei_number(payload: bytes, at: int) -> tuple[int, int]:
    number = 0
    while at < len(payload) and payload[at] == 0xFF:
        number, at = number + 255, at + 1
    return number + (payload[at] if at < len(payload) else 0), at + 1
