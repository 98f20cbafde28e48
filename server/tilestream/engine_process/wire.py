"""What goes between a server and the process of an engine: messages in a pipe, arrays in an arena.

The process says first what it is: (:class:`Reply`, (EngineInfo, EngineReport)). A request is (verb,
argument), its reply (:class:`Reply`, value). Both processes run the same code, so there are no versions.
A step's frames and outcomes are those of ``messages``, each side's in a :class:`Parcel`.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from operator import attrgetter
from typing import Any

import numpy as np

from tilestream.engine_process.arena import Arena, aligned
from tilestream.label_runs import LabelRuns
from tilestream.messages import (
    BinAccount,
    Codec,
    Failure,
    Frame,
    FrameStats,
    Grant,
    Outcome,
    Picture,
    UInt8Array,
)

_SMALL = 4096  # bytes: what is smaller stays in the message


class Reply(Enum):
    """How a request ended."""

    OK = "ok"
    ERROR = "error"  # an EngineError; the value is its text, fit for a client
    FAULT = "fault"  # anything else; the value is a short text, the trace is in the log


@dataclass(frozen=True, slots=True)
class Parcel:
    """An object whose arrays lie in the arena. ``message``: the rest of it, pickled.

    ``places``: offset and bytes of each of them, in the order in which unpickling asks for them.
    """

    message: bytes
    places: tuple[tuple[int, int], ...]

    @property
    def end(self) -> int:
        """The offset after the last of them."""
        return max((aligned(offset + size) for offset, size in self.places), default=0)


def pack(thing: object, arena: Arena, begin: int = 0) -> Parcel:
    """Put what is large of it into the arena, from the offset ``begin`` on."""
    large: list[memoryview] = []

    def stays_in_message(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes >= _SMALL:
            large.append(view)
        return view.nbytes < _SMALL

    message = io.BytesIO()
    pickler = pickle.Pickler(message, protocol=5, buffer_callback=stays_in_message)
    pickler.dispatch_table = _REDUCERS
    pickler.dump(thing)
    places, end = [], begin
    for view in large:
        places.append((end, view.nbytes))
        end = aligned(end + view.nbytes)
    arena.reserve(end)
    for view, (offset, size) in zip(large, places, strict=True):
        arena.array(offset, (size,))[...] = np.frombuffer(view, np.uint8)
    return Parcel(message.getvalue(), tuple(places))


def unpack(parcel: Parcel, arena: Arena, *, copy: bool) -> Any:
    """The object again. Its arrays are views of the arena, or ``copy`` them: the arena is the next step's."""
    if not parcel.places:
        return pickle.loads(parcel.message)
    begin = parcel.places[0][0]
    all_of_it = arena.array(begin, (parcel.end - begin,))
    if copy:
        all_of_it = all_of_it.copy()
    views = [all_of_it[offset - begin :][:size] for offset, size in parcel.places]
    return pickle.loads(parcel.message, buffers=views)


def _reduce_picture(picture: Picture) -> tuple[Any, ...]:
    """Bytes, unlike arrays, are large only if they are told to be."""
    data = pickle.PickleBuffer(picture.data)
    fields = (picture.width, picture.height, picture.compute, picture.pixels, picture.codec, data)
    return _picture, fields


def _picture(
    width: int,
    height: int,
    compute: tuple[int, int],
    pixels: UInt8Array | None,
    codec: Codec,
    data: bytes | memoryview,
) -> Picture:
    return Picture(width, height, compute, pixels, codec, memoryview(data))


def _reducer(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """Objects of a data class are made anew by one call; pickle alone sets field by field."""
    values = attrgetter(*(field.name for field in fields(kind)))
    return lambda thing: (kind, values(thing))


_PLAIN = (Frame, Grant, Outcome, FrameStats, LabelRuns, BinAccount, Failure)  # those that there are many of
_REDUCERS = copyreg.dispatch_table | {kind: _reducer(kind) for kind in _PLAIN} | {Picture: _reduce_picture}
