"""The fake engine, for a process of its own: what a frame's first pixel says may kill or stop it."""

import os
import signal
import time

from support.fake_engine import FakeEngine
from tilestream.messages import EngineReport

DIES, HANGS, FAULTS = 251, 252, 253  # red of the first pixel


class FragileEngine(FakeEngine):
    """``seconds``: per frame of budget 1."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds

    def step(self, plan):
        for frame, _ in plan.frames:
            first = frame.picture.pixels[0, 0, 0]
            if first == DIES:
                os.kill(os.getpid(), signal.SIGKILL)
            elif first == HANGS:
                time.sleep(3600)
            elif first == FAULTS:
                raise ValueError("secret")
        return super().step(plan)

    def open(self, spec):
        if spec.model == "none":
            self.refuse_open = True
        super().open(spec)
        self.refuse_open = False


def only_once(mark):
    """An engine, the first time; ``mark``: a file that does not exist yet."""
    from tilestream.messages import EngineError

    if mark.exists():
        raise EngineError("no room for another one")
    mark.touch()
    return FragileEngine()


def unwilling():
    """An engine that cannot be made."""
    from tilestream.messages import EngineError

    raise EngineError("no such device")


def born_dead():
    os._exit(3)


class CountingEngine(FakeEngine):
    """Tells with every report how many there were."""

    reports = 0

    def report(self):
        self.reports += 1
        return EngineReport("fake", evictions=self.reports)
