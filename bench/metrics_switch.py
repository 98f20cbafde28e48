"""The server in bench.metrics_cost: its metrics can be switched, while it runs, between three modes.

"recorded" is as ever, "silent" records nothing, "timed" records under a stopwatch. SIGUSR1 makes it read the
mode from ``$METRICS_COST_FOLDER/mode`` and answer in ``.../state``. In one process, since two processes of
the same program differ by more than what is looked for (where their weights lie in memory, say).
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tilestream import server
from tilestream.cli import app
from tilestream.telemetry.calls import CallMetrics
from tilestream.telemetry.metrics import Metrics

_NO_RECORDING = {"serve", "server_started"}


class Switch:
    """The mode, and what the stopwatch has measured: CPU nanoseconds of the calling thread."""

    def __init__(self) -> None:
        self.mode = "recorded"
        self.nanoseconds = 0
        self.calls = 0

    def over(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, as the mode wants it."""

        @functools.wraps(call)
        def switched(*args: Any, **kwargs: Any) -> Any:
            if self.mode == "recorded":
                return call(*args, **kwargs)
            if self.mode == "silent":
                return None
            begin = time.thread_time_ns()
            try:
                return call(*args, **kwargs)
            finally:
                self.nanoseconds += time.thread_time_ns() - begin
                self.calls += 1

        return switched

    def turn(self, *_: object) -> None:
        """Take up the mode that is asked for."""
        folder = Path(os.environ["METRICS_COST_FOLDER"])
        self.mode = (folder / "mode").read_text()
        state = {"mode": self.mode, "seconds": self.nanoseconds / 1e9, "calls": self.calls}
        (folder / "part").write_text(json.dumps(state))
        (folder / "part").replace(folder / "state")


class SwitchedMetrics(Metrics):
    """The server's metrics, with the switch before all through which it tells them something."""

    def __init__(self) -> None:
        super().__init__()
        self._switch = switch = Switch()
        self._begun = self.calls.begun
        self.calls.begun = self._switched_call  # type: ignore[method-assign]
        for name, method in inspect.getmembers(self, inspect.ismethod):
            if not name.startswith("_") and name not in _NO_RECORDING:
                setattr(self, name, switch.over(method))
        signal.signal(signal.SIGUSR1, switch.turn)

    def _switched_call(self, kind: str, service: str, method: str) -> CallMetrics:
        call = self._begun(kind, service, method)
        received: Any = SimpleNamespace(inc=self._switch.over(call.received.inc))
        sent: Any = SimpleNamespace(inc=self._switch.over(call.sent.inc))
        return CallMetrics(received, sent, call.handled)


if __name__ == "__main__":
    setattr(server, "Metrics", SwitchedMetrics)  # noqa: B010 (it exports no such name)
    app(["serve", *sys.argv[1:]])
