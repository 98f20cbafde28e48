"""The real server as a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 240  # torch takes its time on a busy machine


def environment() -> dict[str, str]:
    """This process's, so that the child imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def free_port() -> int:
    """A port that nobody listens on, most likely not in a moment either."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def served(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """`tilestream serve`, fp32, one thread; yields the process and its port. Its log is ``folder/log``."""
    port_file, log_path = folder / "port", folder / "log"
    command = [sys.executable, "-m", "tilestream", "serve", "--port", "0", "--port-file", str(port_file)]
    command += ["--precision", "fp32", "--device", "cpu", "--threads", "1", *flags]
    with log_path.open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log, env=environment())
    try:
        deadline = time.monotonic() + START_SECONDS
        while not port_file.exists():
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        yield process, int(port_file.read_text())
    finally:
        process.kill()
        process.wait()
