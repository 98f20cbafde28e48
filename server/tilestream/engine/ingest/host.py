"""Decoding in the engine's own thread, on the host: what an engine that takes bytes falls back on."""

from __future__ import annotations

from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import decode_picture
from tilestream.messages import DropReason, Failure, Picture


def decode_on_host(picture: Picture) -> Picture | Failure:
    """The picture with pixels, or why it cannot be used: the same answer as where the frontend decodes."""
    if picture.pixels is None and picture.data:
        try:
            picture = decode_picture(picture)
        except BadFrame as bad:
            return bad.failure
    if picture.pixels is None or not picture.pixels.size:
        return Failure.dropped(DropReason.ENGINE_ERROR, "the frame has no pixels")
    return picture
