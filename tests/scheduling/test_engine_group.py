import queue
import threading

import numpy as np
import pytest

from support.fake_engine import FakeEngine
from support.plans import frame_of
from tilestream.messages import EngineError, EngineLost, Frame, SessionSpec
from tilestream.scheduling.engine_group import EngineGroup
from tilestream.scheduling.overload import Level, LoadReport
from tilestream.scheduling.scheduler import Scheduler

LONG = 30.0


class Group:
    def __init__(self, *engines: FakeEngine) -> None:
        self.engines = engines
        self.reports: queue.Queue = queue.Queue()
        self.died: queue.Queue = queue.Queue()
        makers = [lambda engine=engine: engine for engine in engines]
        self.group = EngineGroup(makers, Scheduler, self.reports.put, lambda: self.died.put(True))
        for future in self.group.start():
            future.result(LONG)

    def open(self, *names: str) -> None:
        for name in names:
            self.group.open(SessionSpec(name, "fake")).result(LONG)

    def outcome(self):
        while not (report := self.reports.get(timeout=LONG)).outcomes:
            pass
        return report.loop, report.outcomes[0]


@pytest.fixture
def two():
    group = Group(FakeEngine(), FakeEngine())
    yield group
    assert group.group.stop(LONG)
    assert all(engine.closed for engine in group.engines)


def frame(session: str, frame_id: int = 0) -> Frame:
    return frame_of(session, frame_id, np.zeros((8, 8, 3), np.uint8))


def test_sessions_are_spread_and_stay_where_they_are(two):
    two.open(*"abcd")
    assert [set(engine.open_sessions) for engine in two.engines] == [{"a", "c"}, {"b", "d"}]
    for name, place in zip("abcd", (0, 1, 0, 1), strict=True):
        assert two.group.offer(frame(name))
        loop, outcome = two.outcome()
        assert (loop, outcome.session_id) == (place, name)
    two.group.release("a").result(LONG)
    two.group.release("a").result(LONG)
    two.group.release("c").result(LONG)
    assert not two.group.offer(frame("a")) and not two.group.withdraw("a", 0)
    two.open("e", "f")  # into the gap
    assert [set(engine.open_sessions) for engine in two.engines] == [{"e", "f"}, {"b", "d"}]


def test_one_that_refuses_costs_the_others_nothing(two):
    two.engines[0].refuse_open = True
    with pytest.raises(EngineError):
        two.open("a")
    two.group.release("a")
    two.engines[0].refuse_open = False
    two.open("b")
    assert two.group.offer(frame("b")) and two.outcome()[1].failure is None
    assert two.group.load().level == 0


def test_an_engine_that_is_lost_is_told_of_once():
    engine = FakeEngine()
    group = Group(engine)

    def lose(plan):
        raise EngineLost("it burns")

    engine.fail = lose
    group.open("a")
    group.group.offer(frame("a"))
    assert group.died.get(timeout=LONG) and group.died.empty()
    assert engine.closed and group.group.stop(LONG)
    with pytest.raises(EngineError, match="stopping"):
        group.open("b")


def test_nobody_is_put_on_an_engine_that_refuses(two, monkeypatch):
    two.open("a", "b", "c")
    crowded, refusing = two.group._loops
    monkeypatch.setattr(refusing, "load", lambda: LoadReport(Level.REFUSING))
    two.open("d")
    assert set(two.engines[0].open_sessions) == {"a", "c", "d"} and crowded.load().level < Level.REFUSING


def test_what_was_asked_together_with_what_lost_the_engine_is_refused():
    gate = threading.Event()
    group = Group(FakeEngine(gate))
    group.open("a")
    group.group.offer(frame("a"))
    assert group.engines[0].stepping.wait(LONG)

    def lose(spec):
        raise EngineLost("it burns")

    group.engines[0].open = lose
    first, second = (group.group.open(SessionSpec(name, "fake")) for name in "bc")
    gate.set()
    with pytest.raises(EngineLost):
        first.result(LONG)
    with pytest.raises(EngineError, match="stopping"):
        second.result(LONG)


def test_an_idle_engine_s_health_is_checked(two):
    while not all(engine.health_checks for engine in two.engines):
        pass
