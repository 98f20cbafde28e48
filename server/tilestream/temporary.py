"""A folder for temporary files, without which PyTorch cannot even be imported as a whole."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_MEMORY = Path("/dev/shm")  # a file system in memory; containers have one, also where all else is read-only


class NoTemporaryFolderError(Exception):
    """No folder can be written to; the message says what to do."""


def ensure_temporary_folder(others: Sequence[Path] = (_MEMORY,)) -> None:
    """Take one of ``others`` for temporary files where the usual folders are read-only or full.

    For this process and those that it starts. Raises :class:`NoTemporaryFolderError`.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        for folder in others:
            if _can_be_written(folder):
                os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
                log.warning(
                    "no usual folder for temporary files can be written to (read-only or full)",
                    extra={"instead": str(folder)},
                )
                return
        looked = ", ".join([os.environ.get("TMPDIR") or "/tmp", *map(str, others)])
        raise NoTemporaryFolderError(
            f"no folder for temporary files can be written to ({looked} are read-only or full): free some "
            "space, name another one with TMPDIR=..., or give a read-only container one with --tmpfs /tmp"
        ) from error


def _can_be_written(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()
    except OSError:
        return False
    return True
