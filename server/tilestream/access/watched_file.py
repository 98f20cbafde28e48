"""A file that is read again when it changes, for what operators edit while the server runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from tilestream.access.refusals import AccessFileError
from tilestream.file_stamp import file_stamp

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two looks at the file: what was changed holds after that at the latest."""


class WatchedFile(Generic[T]):
    """What ``parse(text)`` makes of a file. ``parse`` raises ValueError for what it cannot use.

    The first reading raises :class:`AccessFileError`. A later one that fails is logged, and what was read
    before stays in force: a typing error shuts nobody out and lets nobody in.
    """

    def __init__(self, path: Path, parse: Callable[[str], T], clock: Callable[[], float]) -> None:
        self._path, self._parse, self._clock = path, parse, clock
        self._looked = clock()
        self._seen = file_stamp(path)
        self._value = self._read()

    def value(self) -> T:
        """As of the latest change."""
        now = self._clock()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            seen = file_stamp(self._path)
            if seen != self._seen:
                self._seen = seen
                self._read_again()
        return self._value

    def _read_again(self) -> None:
        try:
            self._value = self._read()
        except AccessFileError as error:
            log.error("%s; what was read before stays in force", error)
        else:
            log.info("read again", extra={"file": str(self._path)})

    def _read(self) -> T:
        try:
            return self._parse(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise AccessFileError(f"{self._path}: {error}") from None
