"""Waiting for what other threads do: long on a machine with other work, never longer than needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SOON = 20.0  # seconds


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true soon."""
    end = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def own_threads() -> set[str]:
    """The client's threads that run now."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("tilestream")}
