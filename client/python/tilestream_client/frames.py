"""A frame to send, and what stands for one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tilestream_client import jpeg
from tilestream_client.errors import SourceError


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame to send. Give ``image`` or ``data``; plain arrays and bytes do where nothing else is to say.

    image: uint8 [H, W, 3] RGB or [H, W] gray, encoded to JPEG on the way. data: a JPEG (or an access unit,
    as the stream's ``frame_codec`` says), sent as it is. A JPEG that an Exif tag says to turn is turned and
    encoded again. Beside an access unit ``image`` is its upright picture, for ``Result.image``.
    name: comes back in ``Result.name``. capture_time: seconds since the Unix epoch, 0 = unknown.
    force_key_frame: compute this frame in full. problem: what is wrong with it as far as is known here; comes
    back as the ``detail`` of its result if the server finds it INVALID, too.
    """

    image: npt.NDArray[np.uint8] | None = None
    data: bytes | None = None
    name: str = ""
    capture_time: float = 0.0
    force_key_frame: bool = False
    problem: str = ""

    def encoded(self, quality: int = jpeg.DEFAULT_QUALITY) -> bytes:
        """The JPEG to send. Raises SourceError where there is none to be had."""
        if self.data is not None:
            return jpeg.upright(bytes(self.data), quality)
        if self.image is None:
            raise SourceError("a Frame needs an image or data")
        return jpeg.encode(self.image, quality)


FrameLike: TypeAlias = Frame | npt.NDArray[np.uint8] | bytes
Frames: TypeAlias = str | os.PathLike[str] | int | Iterable[FrameLike]
AsyncFrames: TypeAlias = Frames | AsyncIterable[FrameLike]


def as_frame(item: object) -> Frame:
    """One item of a source as a Frame. Raises SourceError for what is none."""
    if isinstance(item, Frame):
        return item
    if isinstance(item, bytes | bytearray | memoryview):
        return Frame(data=bytes(item))
    if isinstance(item, np.ndarray):
        return Frame(image=item)
    raise SourceError(f"a frame must be a uint8 array, JPEG bytes or a Frame, not {type(item).__name__}")
