"""Why a caller does not get what it asks for; the messages are fit for clients."""

from __future__ import annotations


class AccessFileError(Exception):
    """A file of tokens, keys or policies cannot be used; the message says which and why."""


class NotAuthenticated(Exception):  # noqa: N818 (the names of refusals say it)
    """The caller shows no credentials, or wrong ones."""


class NotAllowed(Exception):  # noqa: N818
    """Its identity may not do that, now or later."""


class LimitReached(Exception):  # noqa: N818
    """Too much of something now. ``retry_seconds``: when to ask again. ``reason``: one word for it."""

    reason: str

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class TooManyStreams(LimitReached):
    """More streams than there may be at a time."""

    reason = "streams"


class TooManyCalls(LimitReached):
    """More calls than there may be per second."""

    reason = "calls"
