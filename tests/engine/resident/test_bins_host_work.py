"""What the host does in a step hardly grows with the sessions where some of every frame is computed, either.

Counted is what torch is asked to do in plain torch; on a GPU, kernels do many of these operations at once.
"""

import cProfile
from functools import cache
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.resident import drift, make_resident
from support.reuse_engines import NEVER
from tilestream.engine.resident import reference
from tilestream.messages import Frame, Grant, Picture, SessionSpec

COUNTS = (1, 8, 64)
HEIGHT, WIDTH = 48, 64


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


class Sessions:
    """Sessions that take a step after step together, and what of every frame is computed."""

    def __init__(self, sessions):
        self.names = [f"s{index}" for index in range(sessions)]
        self.engine = make_resident(
            "dilated", "budget", dense_above=NEVER, decode=lambda pictures: self.pixels, store_bytes=512 << 20
        )
        for name in self.names:
            self.engine.open(SessionSpec(name, "", retain=True))
        self.images, self.random = iter(drift(8, HEIGHT, WIDTH)), np.random.default_rng(0)
        for something in (True, True, False):
            self.engine.step(*self.work(something))

    def work(self, something):
        """A step's; where ``something`` is computed, another third of the bins of every frame."""
        image, bins = next(self.images), self.engine.program.bins(HEIGHT, WIDTH)
        self.pixels = [torch.from_numpy(image).permute(2, 0, 1)] * len(self.names)
        picture = Picture(WIDTH, HEIGHT, (WIDTH, HEIGHT), image)
        forced = {name: something and self.random.permutation(12).reshape(bins) < 4 for name in self.names}
        return [(Frame(name, 1, picture), Grant(0.25)) for name in self.names], forced

    def operations(self, something):
        work = self.work(something)
        with Operations() as seen:
            outcomes = self.engine.step(*work)
        assert all(bool(outcome.stats.units_computed) == something for outcome in outcomes)
        return seen.count

    def calls(self, something):
        work, profile = self.work(something), cProfile.Profile()
        profile.runcall(self.engine.step, *work)
        return sum(entry.callcount for entry in profile.getstats())


@cache
def measured(count):
    """By whether something is computed: operations and Python calls of a step."""
    without_search = mock.patch.object(reference, "flow", lambda before, now, expected, how: expected.clone())
    with without_search:  # or the test takes long
        sessions = Sessions(count)
        return {
            something: (sessions.operations(something), sessions.calls(something))
            for something in (False, True)
        }


@pytest.mark.parametrize("something", [False, True], ids=["labels only", "partial frames"])
def test_operations_do_not_grow_with_the_sessions(something):
    counts = [measured(sessions)[something][0] for sessions in COUNTS]
    assert max(counts) - min(counts) <= 10


@pytest.mark.parametrize("something", [False, True], ids=["labels only", "partial frames"])
@pytest.mark.parametrize("sessions", COUNTS)
def test_python_calls_are_few_for_a_session(sessions, something):
    assert measured(sessions)[something][1] <= 220 * sessions + 4500
