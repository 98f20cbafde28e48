"""The server in bench.frontend_cost: one whose engine computes nothing, and that tells what its threads used.

SIGUSR1 makes it write ``$FRONTEND_COST_FOLDER/state``: the CPU seconds of each kind of thread so far. SIGUSR2
begins, and the next one ends, a profile of the event loop's thread, which goes to ``.../profile``.
"""

from __future__ import annotations

import cProfile
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from bench.instant_engine import InstantEngine
from tilestream.config import Settings
from tilestream.engine_process import EngineProcess, ProcessEngine
from tilestream.server import run_server

FOLDER = "FRONTEND_COST_FOLDER"


def thread_seconds() -> dict[str, float]:
    """CPU seconds so far by kind of thread, of this process alone. Python does not know gRPC's."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    total: defaultdict[str, float] = defaultdict(float)
    for task in Path("/proc/self/task").iterdir():
        kind = names.get(int(task.name), "grpc").rstrip("0123456789").partition("_")[0]
        total[kind] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return dict(total)


class Telling:
    """Answers the signals."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._profile = folder, cProfile.Profile(time.thread_time)
        self._profiling = False
        signal.signal(signal.SIGUSR1, self._tell)
        signal.signal(signal.SIGUSR2, self._turn_profile)

    def _tell(self, *_: object) -> None:
        (self._folder / "part").write_text(json.dumps(thread_seconds()))
        (self._folder / "part").replace(self._folder / "state")

    def _turn_profile(self, *_: object) -> None:
        if self._profiling:
            self._profile.disable()
            self._profile.dump_stats(self._folder / "profile.part")
            (self._folder / "profile.part").replace(self._folder / "profile")
        else:
            self._profile.enable()
        self._profiling = not self._profiling


def main() -> int:
    """Flags that are not the server's come first: width, height, seconds of a step, "process" or "thread"."""
    width, height, step_seconds, where = sys.argv[1:5]
    values = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[5:] if "=" in word)
    port_file = Path(sys.argv[sys.argv.index("--port-file") + 1])
    named = {name.replace("-", "_"): value for name, value in values.items()}
    settings = Settings.model_validate(named | {"port": 0, "port_file": port_file})
    Telling(Path(os.environ[FOLDER]))
    make = partial(InstantEngine, int(width), int(height), float(step_seconds))
    if where == "process":
        return run_server(settings, partial(ProcessEngine, EngineProcess(make), standby=False))
    return run_server(settings, make)


if __name__ == "__main__":
    sys.exit(main())
