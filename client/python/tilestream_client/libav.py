"""PyAV, imported when a video is read or written: everything else works where it is not installed."""

from __future__ import annotations

import sys
from typing import Any

from tilestream_client.errors import SourceError


def libav() -> Any:
    """The module ``av``. Raises SourceError where it is missing."""
    try:
        import av
    except ImportError as error:
        raise SourceError(
            f"videos need the package av ({error}); pip install av, or use a folder of images"
        ) from error
    return av


def libav_failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """These and, if it was ever imported, what libav raises; for an except clause."""
    av = sys.modules.get("av")
    return others if av is None else (*others, av.error.FFmpegError)
