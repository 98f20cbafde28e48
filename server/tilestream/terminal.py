"""What commands write: whatever the output can take, names of others as plain text, until nobody reads it.

The client has the same in ``tilestream_client.cli.terminal``: neither distribution needs the other.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_ENDLESS = 100_000  # columns of what is no terminal, so that nothing is cut or wrapped there


def printable(text: str) -> str:
    r"""``text`` as it may be shown in a line: what is not printable is escaped, ``\n``, ``\x1b``, ``\u202e``.

    Every name that comes from elsewhere (cameras, sessions, models, files, errors of servers) goes through
    this before it is printed: it can neither steer a terminal nor look like another line or name.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def say(line: str, *, error: bool = False) -> None:
    """Print one line, to standard error where it is an ``error``; what is not printable in it is escaped."""
    print(printable(line), file=sys.stderr if error else sys.stdout, flush=True)


def console() -> Console:
    """Standard output for tables: as wide as the terminal, and as wide as need be where it is none."""
    from rich.console import Console

    plain = Console(markup=False, emoji=False, highlight=False)
    if not plain.is_terminal:
        plain.width = _ENDLESS
    return plain


def prepare_output() -> None:
    """Let output end silently where its reader is gone, and show another character for what it cannot encode.

    Neither decides a command's exit status. To be called once, before anything is written.
    """
    sys.stdout = _lenient(sys.stdout, "replace")
    sys.stderr = _lenient(sys.stderr, "backslashreplace")


def reader_is_gone() -> bool:
    """Whether standard output was closed at its other end, as ``head`` does when it has seen enough."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Descriptor) and raw.gone


class _Descriptor(io.FileIO):
    """Takes everything; what nobody reads any more is dropped."""

    gone = False

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type, return-value]
        except BrokenPipeError:
            self.gone = True
            return memoryview(data).nbytes  # type: ignore[arg-type]


def _lenient(stream: TextIO, errors: str) -> TextIO:
    """The same output, of which nothing can fail but a full disk."""
    try:
        descriptor, lines = stream.fileno(), stream.isatty()
        stream.flush()
    except (AttributeError, OSError, ValueError):  # none, closed, or not the system's
        return stream
    buffer = io.BufferedWriter(_Descriptor(descriptor, "w", closefd=False))
    return io.TextIOWrapper(buffer, stream.encoding, errors, line_buffering=lines, write_through=False)
