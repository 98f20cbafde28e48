"""Structured logs: one line per event, for people (console) or for machines (json).

Fields go in ``extra``: ``log.info("session opened", extra={"session": "s-1"})``; what is logged inside of
:func:`log_session`'s task has the session by itself. Frame content is never logged.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

from tilestream.terminal import printable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


AUDIT = "tilestream.audit"
"""Logger of the line per session: who, which camera, from where, how long, how much. It is never left out."""

_LIMIT_SECONDS = 10.0
_MOST_KINDS = 1000  # libraries may put values into their messages

_session: ContextVar[str] = ContextVar("session", default="")


def log_session(session_id: str) -> None:
    """From now on this task's log lines are about a session."""
    _session.set(session_id)


def _add_session(record: logging.LogRecord) -> bool:
    if not hasattr(record, "session") and _session.get():
        record.session = _session.get()
    return True


@dataclass(slots=True)
class _Kind:
    """Lines of one kind since ``begin``."""

    begin: float
    lines: int = 0
    suppressed: int = 0


class RateLimit(logging.Filter):
    """Lets ``limit`` lines of a kind (logger and message before its values) through in 10 seconds.

    The first one after that has the field ``suppressed``: how many were not written.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limit, self._clock = limit, clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == AUDIT:
            return True
        now = self._clock()
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        kind = self._kinds.setdefault((record.name, str(record.msg)), _Kind(now))
        if now - kind.begin >= _LIMIT_SECONDS:
            if kind.suppressed:
                record.suppressed = kind.suppressed
            kind.begin, kind.lines, kind.suppressed = now, 0, 0
        kind.lines += 1
        if kind.lines > self._limit:
            kind.suppressed += 1
            return False
        return True


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class ConsoleFormatter(logging.Formatter):
    """``time level message key=value ...`` for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_plain(value)}" for key, value in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname:<7} {_printable_lines(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n" + _printable_lines(self.formatException(record.exc_info))
        return line


def _printable_lines(text: str) -> str:
    """A message or traceback; lines after its first are set in, so that none looks like one of ours."""
    return "\n  ".join(printable(line) for line in text.split("\n"))


def _plain(value: object) -> str:
    """The value, quoted where it could be taken for something else: clients choose some of them."""
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def setup_logging(form: str, level: str, stream: TextIO | None = None, limit: int = 0) -> None:
    """Log to ``stream`` (default: stderr); ``form``: "console" or "json"; ``level``: "info" and the like.

    ``limit``: most lines of a kind in 10 seconds; 0: as many as there are.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    handler.addFilter(_add_session)
    if limit:
        handler.addFilter(RateLimit(limit))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
