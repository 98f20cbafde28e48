"""A server as a process of its own, from start to shutdown: for the demo, benches and tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVE = (sys.executable, "-m", "tilestream", "serve")
START_SECONDS = 240.0  # a first start on a slow disk loads PyTorch for a while
STOP_SECONDS = 60.0


class NotStartedError(Exception):
    """The server did not start; the message has the end of its log."""


def free_port() -> int:
    """A port that nobody listens on, most likely not in a moment either."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def server_process(
    folder: Path,
    *flags: str,
    command: Sequence[str] = SERVE,
    environment: Mapping[str, str] | None = None,
    start_seconds: float = START_SECONDS,
    stop_seconds: float = STOP_SECONDS,
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yields the process and its port, a free one; then shuts it down as an operator would.

    ``folder``: gets the files ``port`` and ``server.log``. ``command``: takes ``--port`` and ``--port-file``
    before ``flags``. ``start_seconds``, ``stop_seconds``: waited for at most; then it is killed with all that
    it started. Raises :class:`NotStartedError`.
    """
    port_file, log_path = folder / "port", folder / "server.log"
    port_file.unlink(missing_ok=True)
    words = [*command, "--port", "0", "--port-file", str(port_file), *flags]
    with log_path.open("w") as log:
        # a session of its own: what ends the caller from the keyboard leaves it to shut down in order
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + start_seconds
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log_path.read_text().splitlines()[-15:])
                raise NotStartedError(f"the server did not start; the end of {log_path}:\n{tail}")
            time.sleep(0.05)
        yield process, int(port_file.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its session is its process group, too
            process.wait()


@contextmanager
def serving(*flags: str) -> Iterator[str]:
    """A server process that logs warnings only; yields its address. Raises :class:`NotStartedError`."""
    quiet = ("--log-level", "warning")
    with tempfile.TemporaryDirectory() as name, server_process(Path(name), *quiet, *flags) as (_, port):
        yield f"127.0.0.1:{port}"
