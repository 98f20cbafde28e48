"""Stopping politely: the first Ctrl-C (or SIGTERM) asks, the second insists."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_NOTE = b"stopping after the frames under way; once more to stop at once\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSwitch:
    """Within ``with``: ``requested`` turns true at the first signal, the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSwitch:
        """Take over the signals, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def until_requested(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, up to the request."""
        for item in items:
            if self.requested:
                return
            yield item

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        os.write(2, _NOTE)  # print() may be what was interrupted
