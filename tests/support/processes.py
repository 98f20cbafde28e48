"""The real server as a process of its own."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tools.server_process import free_port, server_process

__all__ = ["environment", "free_port", "served"]


def environment() -> dict[str, str]:
    """This process's, so that the child imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def served(folder: Path, *flags: str) -> AbstractContextManager[tuple[subprocess.Popen[bytes], int]]:
    """`tilestream serve`, fp32, one thread; yields the process and its port. Logs to ``server.log``."""
    plain = ("--precision", "fp32", "--device", "cpu", "--threads", "1")
    return server_process(folder, *plain, *flags, environment=environment())
