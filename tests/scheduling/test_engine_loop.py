import queue
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from support.fake_engine import STEP, FakeEngine
from support.plans import frame_of
from tilestream.label_runs import LabelRuns
from tilestream.messages import DropReason, EngineError, EngineReport, Failure, SessionSpec
from tilestream.scheduling.engine_loop import EngineLoop
from tilestream.scheduling.scheduler import Limits, Scheduler

engine_error = partial(Failure.dropped, DropReason.ENGINE_ERROR)
LONG = 30.0  # seconds that are never reached


class Rig:
    def __init__(self, engine: FakeEngine, max_batch: int = 4) -> None:
        self.engine = engine
        self.reports: queue.Queue = queue.Queue()
        self.loop = EngineLoop(
            lambda: engine, Scheduler(Limits(max_batch, max_step_seconds=LONG)), self.reported
        )
        self.info = self.loop.start().result(LONG)

    def reported(self, report) -> None:
        if report.outcomes:
            self.reports.put(report)

    max_delay = 0.0

    def open(self, session: str) -> None:
        self.loop.open(SessionSpec(session, "fake", max_delay=self.max_delay)).result(LONG)

    def offer(self, session: str, frame_id: int) -> bool:
        pixels = np.full((8, 8, 3), STEP * (frame_id % 10), np.uint8)
        return self.loop.offer(frame_of(session, frame_id, pixels))

    def outcome(self):
        (outcome,) = self.reports.get(timeout=LONG).outcomes
        return outcome


@pytest.fixture
def rig():
    rig = Rig(FakeEngine())
    yield rig
    assert rig.loop.stop(LONG)
    assert rig.engine.closed


def test_offers_what_the_engine_has(rig):
    assert [model.name for model in rig.info.models] == ["fake", "other"]
    assert (rig.info.device, rig.info.precision) == ("fake", "fp32")


def test_frames_in_outcomes_out_all_in_one_thread(rig):
    rig.open("a")
    for i in range(5):
        assert rig.offer("a", i)
        outcome = rig.outcome()
        assert (outcome.session_id, outcome.frame_id) == ("a", i)
        assert np.all(outcome.labels == i)
    rig.loop.release("a").result(LONG)
    assert not rig.offer("a", 9)
    assert not rig.engine.open_sessions
    assert len(rig.engine.threads) == 1
    assert threading.get_ident() not in rig.engine.threads


@pytest.mark.parametrize("error", [RuntimeError("secret"), MemoryError(), ValueError()])
def test_a_failing_step_costs_its_frames_only(rig, error):
    def fail(plan):
        if plan.frames[0][0].frame_id == 1:
            raise error

    rig.engine.fail = fail
    rig.open("a")
    answers = []
    for i in range(3):
        rig.offer("a", i)
        answers.append(rig.outcome().failure)
    assert answers == [None, engine_error("the computation failed"), None]


def test_an_engine_error_s_text_reaches_the_frame(rig):
    def fail(plan):
        raise EngineError("frame too small")

    rig.engine.fail = fail
    rig.open("a")
    rig.offer("a", 0)
    assert rig.outcome().failure == engine_error("frame too small")


def test_frames_that_the_engine_forgets_are_answered(rig):
    rig.engine.step = lambda plan: []
    rig.open("a")
    rig.offer("a", 0)
    assert rig.outcome().failure == engine_error("the engine gave no answer for this frame")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"frame_id": 7}, "the engine gave no answer for this frame"),
        ({"session_id": "b"}, "the engine gave no answer for this frame"),
        ({"labels": np.zeros((8, 9), np.uint8)}, "the engine gave labels of another size than the frame's"),
        (
            {"labels": LabelRuns.of(np.zeros((8, 9), np.uint8))},
            "the engine gave labels of another size than the frame's",
        ),
        (
            {"confidence": np.zeros((1, 1), np.uint8)},
            "the engine gave labels of another size than the frame's",
        ),
    ],
    ids=["frame", "session", "labels", "runs", "confidence"],
)
def test_a_wrong_outcome_fails_its_frame_and_no_other(wrong, why):
    gate = threading.Event()
    rig = Rig(FakeEngine(gate))
    real_step = rig.engine.step
    rig.engine.step = lambda plan: [
        replace(outcome, **wrong) if outcome.session_id == "a" else outcome for outcome in real_step(plan)
    ]
    for name in "xac":
        rig.open(name)
    rig.offer("x", 0)
    assert rig.engine.stepping.wait(LONG)
    for name in "ac":  # they share a step
        rig.offer(name, 0)
    gate.set()
    assert rig.outcome().session_id == "x"
    bad, good = rig.reports.get(timeout=LONG).outcomes
    assert (bad.session_id, bad.frame_id, bad.labels) == ("a", 0, None) and bad.failure == engine_error(why)
    assert good.session_id == "c" and good.failure is None
    assert rig.loop.stop(LONG)


def test_labels_may_come_behind_the_outcomes_of_a_later_step(rig):
    rig.engine.later, rig.max_delay = 1, 60.0
    rig.open("a")
    for i in range(3):
        rig.offer("a", i)
        report = rig.reports.get(timeout=LONG)
        ((own,), others) = report.outcomes, report.others
        assert (own.frame_id, own.labels, own.failure) == (i, None, None) and own.stats.units_total
        assert [other.frame_id for other in others] == ([i - 1] if i else [])
        assert all((other.labels == other.frame_id).all() for other in others)
    assert not rig.loop._scheduler._queues["a"].credit.fresh, "what they cost is known already"


def test_open_fails_with_the_engine_s_reason(rig):
    rig.engine.refuse_open = True
    with pytest.raises(EngineError, match="no memory"):
        rig.open("a")
    assert not rig.offer("a", 0)


def test_withdraw_before_but_not_during_the_step():
    gate = threading.Event()
    rig = Rig(FakeEngine(gate))
    rig.open("a")
    rig.offer("a", 0)
    assert rig.engine.stepping.wait(LONG)
    rig.offer("a", 1)
    assert not rig.loop.withdraw("a", 0)
    assert rig.loop.withdraw("a", 1)
    gate.set()
    assert rig.outcome().frame_id == 0
    assert rig.loop.stop(LONG)
    assert rig.engine.plans == [[("a", 0)]]


def test_frames_of_several_sessions_share_a_step():
    gate = threading.Event()
    rig = Rig(FakeEngine(gate), max_batch=3)
    for name in "abcd":
        rig.open(name)
    rig.offer("a", 0)
    assert rig.engine.stepping.wait(LONG)
    for name in "abcd":
        rig.offer(name, 1)
    gate.set()
    sizes = [len(rig.reports.get(timeout=LONG).outcomes) for _ in range(3)]
    assert sizes == [1, 1, 3], "new sessions let one go first that is there"
    assert rig.loop.stop(LONG)


def test_release_during_the_step_and_calls_after_the_stop():
    gate = threading.Event()
    rig = Rig(FakeEngine(gate))
    rig.open("a")
    rig.offer("a", 0)
    assert rig.engine.stepping.wait(LONG)
    released = rig.loop.release("a")
    assert not rig.offer("a", 1)
    gate.set()
    released.result(LONG)
    assert rig.loop.stop(LONG)
    with pytest.raises(EngineError, match="stopping"):
        rig.open("b")


def test_an_engine_that_cannot_be_made():
    def make():
        raise EngineError("no such device")

    loop = EngineLoop(make, Scheduler(), lambda report: None)
    with pytest.raises(EngineError, match="no such device"):
        loop.start().result(LONG)
    with pytest.raises(EngineError):
        loop.open(SessionSpec("a", "fake")).result(LONG)
    assert loop.stop(LONG)


def test_a_loop_that_dies_says_so_and_refuses_further_calls():
    died = threading.Event()

    class Broken(Scheduler):
        def schedule(self, now):
            raise RuntimeError("a bug")

    engine = FakeEngine()
    loop = EngineLoop(lambda: engine, Broken(), lambda report: None, died.set)
    loop.start().result(LONG)
    loop.open(SessionSpec("a", "fake")).result(LONG)
    loop.offer(frame_of("a", 1, np.zeros((8, 8, 3), np.uint8)))
    assert died.wait(LONG)
    with pytest.raises(EngineError, match="stopping"):
        loop.open(SessionSpec("b", "fake")).result(LONG)
    assert loop.stop(LONG) and engine.closed


def test_an_idle_engine_s_state_is_told_when_it_changes_and_only_then():
    engine, told = FakeEngine(), queue.Queue()
    loop = EngineLoop(lambda: engine, Scheduler(Limits(4)), told.put)
    loop.start().result(LONG)
    try:
        assert told.get(timeout=LONG).engine == engine.report()
        engine.report = lambda: EngineReport("fake", device_utilisation=0.9)
        assert told.get(timeout=LONG).engine.device_utilisation == 0.9
        checks = engine.health_checks
        engine.report = lambda: EngineReport("fake", device_utilisation=0.0)
        report = told.get(timeout=LONG)
        assert report.engine.device_utilisation == 0.0 and not report.outcomes
        assert engine.health_checks >= checks and told.empty()
    finally:
        assert loop.stop(LONG)
