"""Whether a file has changed, for what is read again while the server runs."""

from __future__ import annotations

from pathlib import Path


def file_stamp(path: Path) -> tuple[int, int, int, int] | None:
    """What differs once a file was written or replaced; follows links, as Kubernetes' secrets are.

    None: it cannot be seen.
    """
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns
