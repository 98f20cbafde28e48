"""What is wrong with a frame that cannot be used."""

from __future__ import annotations

from enum import Enum


class InvalidReason(Enum):
    """Why a frame cannot be used; the API's enum of the same name has the same members."""

    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_JPEG = "not_jpeg"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"


class BadFrame(Exception):  # noqa: N818 (the name says it)
    """A frame that cannot be decoded. The message is fit for the client that sent it."""

    def __init__(self, reason: InvalidReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
