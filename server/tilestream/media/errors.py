"""What is wrong with a frame that cannot be used."""

from __future__ import annotations

from tilestream.messages import Failure, InvalidReason


class BadFrame(Exception):  # noqa: N818 (the name says it)
    """A frame that cannot be decoded. The message is fit for the client that sent it."""

    def __init__(self, reason: InvalidReason, message: str) -> None:
        super().__init__(message)
        self.failure = Failure.invalid(reason, message)
