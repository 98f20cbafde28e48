"""The decoder of one session: access units in, pictures out, each unit with one outcome.

Pictures come in the order in which they are shown, which with B pictures is not that of the units. What is
wrong with a unit costs it its picture, and all after it theirs up to one with which decoding can begin again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import fit_size, resize_image
from tilestream.media.rotation import swapped, turned
from tilestream.media.video.annexb import nal_units
from tilestream.media.video.h264 import H264Headers
from tilestream.media.video.h265 import H265Headers
from tilestream.media.video.headers import UnitHeader
from tilestream.media.video.limits import UnitLimits
from tilestream.messages import Codec, Failure, InvalidReason, Picture

VIDEO_CODECS = (Codec.H264, Codec.H265)
_LIBAV_NAMES = {Codec.H264: "h264", Codec.H265: "hevc"}
_HEADERS: dict[Codec, Callable[[], H264Headers | H265Headers]] = {
    Codec.H264: H264Headers,
    Codec.H265: H265Headers,
}
# H.264's decoder marks pictures that it had to make up parts of; H.265's does not, and has to raise instead.
# H.264's must not: it would raise at harmless references to what was before a recovery point, too.
_OPTIONS: dict[Codec, dict[str, str]] = {Codec.H264: {}, Codec.H265: {"err_detect": "explode"}}


def video_is_offered() -> bool:
    """Whether PyAV, which decodes it, is installed."""
    return find_spec("av") is not None


@dataclass(frozen=True, slots=True)
class Wanted:
    """How pictures are to be. ``compute_size``: (width, height) of turned pictures; None: their own, limited.

    ``rotation``: 0, 90, 180 or 270 degrees clockwise.
    """

    compute_size: tuple[int, int] | None
    max_compute_pixels: int
    rotation: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """An access unit to decode. ``is_wanted``: whether somebody (still) waits for its picture, asked when it
    is there; None: it is for the decoder alone, and has no outcome.
    """

    frame_id: int
    data: bytes
    is_wanted: Callable[[], bool] | None = None


Outcomes = list[tuple[int, Picture | Failure]]
"""By frame_id. A unit that is not wanted any more has none."""


class VideoDecoder:
    """One stream of units. Calls come from one thread at a time."""

    def __init__(self, codec: Codec, limits: UnitLimits, wanted: Wanted) -> None:
        self._codec = codec
        self._limits = limits
        self._wanted = wanted
        self._headers = _HEADERS[codec]()
        self._context: Any = None  # None: it waits for a unit to begin with
        self._missing = "no key unit has come yet"  # why it waits
        self._count = 0
        self._latest: int | None = None  # frame_id of the latest unit that this decoding had
        self._held: dict[int, Unit] = {}  # those without a picture so far, by their number in the stream
        self._depth = 0  # pictures that may be held back
        self._building = False  # decoding began with a picture that is whole only some later (intra refresh)

    def decode(self, unit: Unit) -> Outcomes:
        """What is known after one more unit, of it and of earlier ones, in the order in which they are shown.

        Does not raise for a bad unit.
        """
        if unit.is_wanted is None and self._latest is not None and unit.frame_id <= self._latest:
            return []  # sent again for a decoder that was thought to be gone
        done: Outcomes = []
        try:
            self._decode(unit, done)
        except BadFrame as bad:
            self._held = {number: one for number, one in self._held.items() if one is not unit}
            self._stop(f"none since frame {unit.frame_id}: {bad}", done)
            done += _failed(unit, bad.failure)
        return done

    def flush(self) -> Outcomes:
        """No more units come: what is left. Others may follow all the same, from a key unit on."""
        done: Outcomes = []
        self._stop("none since the stream was ended", done)
        return done

    def held(self) -> set[int]:
        """Frames whose pictures need later units first."""
        return {unit.frame_id for unit in self._held.values()}

    def _decode(self, unit: Unit, done: Outcomes) -> None:
        """Adds to what is done. Raises :class:`BadFrame` where neither this unit nor the next can be used."""
        self._limits.check_bytes(unit.data)
        header = self._headers.read(nal_units(unit.data))
        self._limits.check(self._codec, header, len(unit.data))
        if header.pictures == 0:
            raise BadFrame(InvalidReason.EMPTY, "the access unit holds no picture")
        if header.gap and self._context is not None:
            if not header.begins:
                raise BadFrame(InvalidReason.NO_KEY_UNIT, "a unit before this one is missing")
            self._stop("", done)
        data = unit.data
        if self._context is None:
            self._begin(header)
            data = (
                self._headers.parameter_sets() + data
            )  # they may have come with a unit that was not decoded
        if header.leading:
            text = "it refers to units before the key unit that decoding began with"
            done += _failed(unit, Failure.invalid(InvalidReason.NO_KEY_UNIT, text))
            return
        self._building = self._building and not header.refreshes
        if header.sequence is not None:
            self._limits.check_memory(header.sequence, len(self._held))
            self._depth = header.sequence.reordered
        self._feed(unit, data, done)

    def _begin(self, header: UnitHeader) -> None:
        """Raises :class:`BadFrame` where decoding cannot begin with this unit."""
        if not header.begins or header.sequence is None:
            what = "whose parameter sets have not come" if header.begins else "which this is not"
            text = f"decoding begins with a key unit, {what}; {self._missing}"
            raise BadFrame(InvalidReason.NO_KEY_UNIT, text)
        import av

        self._context = av.CodecContext.create(_LIBAV_NAMES[self._codec], "r")
        self._context.thread_count = 1
        most = str(self._limits.most_coded_pixels)
        self._context.options = {**_OPTIONS[self._codec], "max_pixels": most}
        self._building = not header.refreshes
        self._headers.begin(header)

    def _feed(self, unit: Unit, data: bytes, done: Outcomes) -> None:
        import av

        self._latest = unit.frame_id
        packet = av.Packet(data)
        packet.pts = self._count = self._count + 1
        self._held[self._count] = unit
        try:
            frames = self._context.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            text = f"the access unit is damaged: {getattr(error, 'strerror', None) or error}"
            raise BadFrame(InvalidReason.CORRUPT, text) from error
        damaged = self._take(frames, done)
        if damaged:
            first = min(damaged)
            for number in [number for number in self._held if number > first]:
                done += _failed(self._held.pop(number), _refers_to_damage())
            self._stop(f"none since frame {damaged[first].frame_id}, which is damaged", done)
            return
        # What libav calls has_b_frames PyAV gives as a truth value.
        while len(self._held) > (self._depth if self._context.has_b_frames else 0):
            done += _failed(self._held.pop(next(iter(self._held))), self._no_picture())

    def _take(self, frames: list[Any], done: Outcomes) -> dict[int, Unit]:
        """Frames that the decoder gave; the units that turned out to be damaged, by their numbers."""
        damaged: dict[int, Unit] = {}
        for frame in frames:
            unit = self._held.pop(frame.pts, None)
            if unit is None:
                continue
            if frame.is_corrupt:
                damaged[frame.pts] = unit
                text = "the access unit is damaged, or one that it refers to is"
                done += _failed(unit, Failure.invalid(InvalidReason.CORRUPT, text))
            elif unit.is_wanted is not None and unit.is_wanted():
                done.append((unit.frame_id, self._picture(frame)))
            self._building = False
        return damaged

    def _picture(self, frame: Any) -> Picture | Failure:
        wanted = self._wanted
        try:
            self._limits.check_size(frame.width, frame.height)
            pixels = frame.to_ndarray(format="rgb24")
        except BadFrame as bad:
            return bad.failure
        except ValueError as error:
            return Failure.invalid(InvalidReason.UNSUPPORTED, f"pixels of a rare kind are not taken: {error}")
        upright = swapped((frame.width, frame.height), wanted.rotation)
        compute = swapped(
            wanted.compute_size or fit_size(*upright, wanted.max_compute_pixels), wanted.rotation
        )
        small = resize_image(pixels, compute)
        return turned(Picture(frame.width, frame.height, compute, small, self._codec), wanted.rotation)

    def _stop(self, missing: str, done: Outcomes) -> None:
        """Decode no more up to the next key unit: the pictures that the decoder still holds, and its end."""
        context, self._context, self._latest = self._context, None, None
        if context is None:
            return
        import av

        self._missing = missing
        with contextlib.suppress(av.error.FFmpegError, ValueError):  # then what it holds is lost, as below
            self._take(context.decode(None), done)
        for unit in self._held.values():
            done += _failed(unit, self._no_picture())
        self._held.clear()

    def _no_picture(self) -> Failure:
        if self._building:
            text = "the picture is not whole yet: decoding began with an intra refresh"
            return Failure.invalid(InvalidReason.NO_KEY_UNIT, text)
        return Failure.invalid(InvalidReason.CORRUPT, "the decoder made no picture of this unit")


def _failed(unit: Unit, failure: Failure) -> Outcomes:
    return [] if unit.is_wanted is None else [(unit.frame_id, failure)]


def _refers_to_damage() -> Failure:
    return Failure.invalid(InvalidReason.CORRUPT, "it refers to a unit that is damaged")
