"""What the host does in a step hardly grows with the sessions: everything is done for all of them at once.

Counted is what the host asks a GPU for: what is one kernel there counts as one operation, and so does what is
a CUDA graph from the third step on, the network and the look at the frames.
"""

import cProfile
from functools import cache
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.resident import make_resident, pan
from tilestream.engine.resident import engine as resident_engine
from tilestream.engine.resident import network, observe, reference
from tilestream.messages import Frame, Grant, Picture, SessionSpec

COUNTS = (1, 8, 64)
HEIGHT, WIDTH = 48, 64
KERNELS = {"luma": 1, "moved_labels": 1, "best_labels": 1, "normalized": 1, "label_runs": 5}
"""By operation: what the host asks for on a GPU. The search for motion is a part of a graph."""


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.count, self.paused = 0, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not self.paused
        return func(*args, **(kwargs or {}))

    def as_one(self, work, count):
        """``work`` counted as so many operations, whatever it does."""

        def counted(*args, **kwargs):
            self.count += count
            before, self.paused = self.paused, True
            try:
                return work(*args, **kwargs)
            finally:
                self.paused = before

        return counted


class Counted:
    """An engine with sessions that take a step after step together. What counts its work is ``seen``."""

    def __init__(self, sessions):
        self.seen = Operations()
        kernels = {name: self.seen.as_one(getattr(reference, name), n) for name, n in KERNELS.items()}
        kernels["flow"] = lambda previous, current, expected: expected.clone()  # or the test takes long

        def captured(work, pool):
            return self.seen.as_one(work, 1)

        with (
            mock.patch.object(resident_engine, "operations_for", lambda device: SimpleNamespace(**kernels)),
            mock.patch.object(observe, "Captured", captured),
            mock.patch.object(network, "Captured", captured),
        ):
            self.engine = make_resident("dilated", "learned", decode=lambda pictures: self.pixels)
            self._begin(sessions)

    def _begin(self, sessions):
        self.names = [f"s{index}" for index in range(sessions)]
        for name in self.names:
            self.engine.open(SessionSpec(name, "", retain=True))
        self.images = iter(pan(12, HEIGHT, WIDTH))
        for whole in (True, False, True, False):
            self.engine.step(*self.work(whole))

    def work(self, whole):
        """A step's; of every fourth session the ``whole`` frame is computed."""
        image = next(self.images)
        self.pixels = [torch.from_numpy(image).permute(2, 0, 1)] * len(self.names)
        picture = Picture(WIDTH, HEIGHT, (WIDTH, HEIGHT), image)
        forced = {name: whole and place % 4 == 0 for place, name in enumerate(self.names)}
        return [(Frame(name, 1, picture), Grant(0.25)) for name in self.names], forced

    def operations(self, whole):
        work, self.seen.count = self.work(whole), 0
        with self.seen:
            self.engine.step(*work)
        return self.seen.count

    def calls(self, whole):
        work, profile = self.work(whole), cProfile.Profile()
        profile.runcall(self.engine.step, *work)
        return sum(entry.callcount for entry in profile.getstats())


@cache
def measured(sessions):
    """By whether whole frames are computed: operations and Python calls of a step."""
    counted = Counted(sessions)
    return {whole: (counted.operations(whole), counted.calls(whole)) for whole in (False, True)}


@pytest.mark.parametrize("whole", [False, True], ids=["labels only", "with whole frames"])
def test_operations_do_not_grow_with_the_sessions(whole):
    counts = [measured(sessions)[whole][0] for sessions in COUNTS]
    assert max(counts) - min(counts) <= 10
    assert max(counts) <= 300


@pytest.mark.parametrize("whole", [False, True], ids=["labels only", "with whole frames"])
@pytest.mark.parametrize("sessions", COUNTS)
def test_python_calls_are_few_for_a_session(sessions, whole):
    assert measured(sessions)[whole][1] <= 150 * sessions + 3000
