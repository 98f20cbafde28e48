"""An engine in its own process does what one in this process does, and outlives its process."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake_engine import FakeEngine
from support.fragile_engine import (
    DIES,
    FAULTS,
    HANGS,
    CountingEngine,
    FragileEngine,
    born_dead,
    only_once,
    unwilling,
)
from support.frames import encode
from support.plans import frame_of, plan_of
from support.processes import environment
from support.waiting import LONG, wait_until
from tilestream.engine_process import EngineProcess, ProcessEngine
from tilestream.engine_process.handle import ProcessHandle
from tilestream.engine_process.process_engine import MAX_DEATHS, MAX_STARTS, REPORT_SECONDS, STANDBY_AFTER
from tilestream.label_runs import LabelRuns
from tilestream.messages import Codec, EngineError, EngineLost, FailureKind, Frame, Picture, SessionSpec

SPECS = [SessionSpec("plain", "fake"), SessionSpec("rich", "other", confidence=True, bins=True)]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def frame(session="plain", frame_id=0, size=(20, 30), value=60):
    return frame_of(session, frame_id, np.full((*size, 3), value, np.uint8))


def plan(**fields):
    return plan_of(frame(**fields), budget=0.5)


@pytest.fixture(scope="module")
def shared():
    engine = ProcessEngine(EngineProcess(FragileEngine), standby=False)
    for spec in SPECS:
        engine.open(spec)
    yield engine
    engine.close()


@pytest.fixture
def engine(request):
    """No time passes for it; its parameter: the seconds that its process may take for an answer."""
    how = EngineProcess(FragileEngine, answer_seconds=getattr(request, "param", 30.0))
    made = ProcessEngine(how, standby=False, clock=Clock())
    made.open(SPECS[0])
    yield made
    made.close()


frames = st.tuples(st.integers(1, 90), st.integers(1, 130), st.integers(0, 2**32 - 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(frames, max_size=2))
def test_outcomes_are_those_of_an_engine_in_this_process(shared, sizes):
    plan = plan_of(
        *(
            frame_of(spec.session_id, 7, np.random.default_rng(seed).integers(0, 250, (h, w, 3), np.uint8))
            for spec, (h, w, seed) in zip(SPECS, sizes, strict=False)
        )
    )
    near = FakeEngine()
    for spec in SPECS:
        near.open(spec)
    for found, expected in zip(shared.step(plan), near.step(plan), strict=True):
        assert (found.session_id, found.frame_id, found.stats) == (
            expected.session_id,
            expected.frame_id,
            expected.stats,
        )
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.confidence, expected.confidence)
        assert (found.bins is None) == (expected.bins is None)
    assert shared.info == near.info and (shared.info.device, shared.info.precision) == ("fake", "fp32")
    assert shared.report().store_bytes == 1000


def test_an_engine_that_decodes_gets_pictures_as_they_were_sent():
    engine = ProcessEngine(EngineProcess(partial(FakeEngine, takes=(Codec.JPEG,))), standby=False)
    engine.open(SPECS[0])
    good = encode(np.full((720, 1280, 3), 60, np.uint8), quality=100)
    frames = [
        Frame("plain", number, Picture(1280, 720, (1280, 720), data=data))
        for number, data in enumerate((good, good[: len(good) // 2]))
    ]
    found = [engine.step(plan_of(frame))[0] for frame in frames]
    assert engine.info.takes == (Codec.JPEG,)
    assert found[0].labels.shape == (720, 1280) and (found[0].labels == 3).all()
    assert found[1].labels is None and found[1].failure.kind is FailureKind.INVALID
    shared_bytes = os.fstat(engine._active.arena.file).st_size
    assert shared_bytes < 720 * 1280 * 3, "it had room for the labels, not for the pixels"
    (outcome,) = engine.step(plan(value=40))
    assert (outcome.labels == 2).all(), "it takes pixels as well"
    engine.close()


def test_an_engine_that_gives_runs():
    engine = ProcessEngine(EngineProcess(partial(FakeEngine, runs=True)), standby=False)
    engine.open(SPECS[0])
    found = engine.step(plan(size=(90, 130), value=60))[0].labels
    assert isinstance(found, LabelRuns) and (found.to_map() == np.full((90, 130), 3)).all()
    engine.close()


def test_labels_are_the_callers_own(shared):
    first = shared.step(plan(value=20))[0].labels
    shared.step(plan(value=80))
    assert (first == 1).all() and first.flags.writeable


def test_what_it_refuses_is_told_as_here(engine):
    with pytest.raises(EngineError, match="no memory for another session"):
        engine.open(SessionSpec("x", "none"))
    with pytest.raises(RuntimeError) as caught:
        engine.step(plan(value=FAULTS))
    assert "secret" not in str(caught.value) and engine.report().restarts == 0
    engine.release("plain")
    engine.release("plain")
    with pytest.raises(RuntimeError):  # the fake engine does not know it any more
        engine.step(plan())


def test_a_killed_process_is_replaced_and_knows_the_sessions(engine):
    old = engine.process_id
    os.kill(old, signal.SIGKILL)
    assert (engine.step(plan(value=40))[0].labels == 2).all()
    assert engine.report().restarts == 1 and engine.process_id != old
    os.kill(engine.process_id, signal.SIGKILL)
    while engine.report().restarts == 1:  # also where nothing is computed
        engine.check_health()
    assert (engine.step(plan(value=40))[0].labels == 2).all()


@pytest.mark.parametrize(("engine", "poison"), [(30.0, DIES), (1.0, HANGS)], indirect=["engine"])
def test_frames_that_kill_it_twice_fail_and_the_others_go_on(engine, poison):
    with pytest.raises(EngineError, match="died twice"):
        engine.step(plan(value=poison))
    assert engine.report().restarts == 2
    assert (engine.step(plan(value=40))[0].labels == 2).all()


def test_it_gives_up_where_nothing_helps(engine):
    with pytest.raises(EngineLost, match=f"died {MAX_DEATHS} times"):
        for _ in range(MAX_DEATHS):
            with pytest.raises(EngineError):
                engine.step(plan(value=DIES))


def test_deaths_that_are_far_apart_are_no_reason_to_give_up():
    clock = Clock()
    engine = ProcessEngine(EngineProcess(FragileEngine), standby=False, clock=clock)
    for _ in range(MAX_DEATHS + 1):
        clock.now += 100
        os.kill(engine.process_id, signal.SIGKILL)
        engine.open(SPECS[0])
    engine.close()


def test_one_that_cannot_start_says_why():
    with pytest.raises(EngineError, match="no such device"):
        ProcessEngine(EngineProcess(unwilling))
    with pytest.raises(EngineError, match="did not start"):
        ProcessEngine(EngineProcess(born_dead))


def test_a_process_that_stands_by_takes_over():
    clock = Clock()
    engine = ProcessEngine(EngineProcess(partial(FragileEngine, 0.001)), clock=clock)
    engine.open(SPECS[0])
    assert engine.standby_id is None  # not while the first one has just begun
    clock.now += STANDBY_AFTER
    engine.step(plan())
    standby = engine.standby_id
    assert standby
    os.kill(engine.process_id, signal.SIGKILL)
    assert (engine.step(plan(value=40))[0].labels == 2).all()
    assert engine.process_id == standby and engine.standby_id is None
    clock.now += STANDBY_AFTER
    engine.check_health()
    os.kill(engine.standby_id, signal.SIGKILL)
    dead = engine.standby_id
    while engine.standby_id == dead:
        engine.check_health()
    assert (engine.step(plan(value=40))[0].labels == 2).all()
    engine.close()


def test_it_gives_up_where_no_other_can_be_started_however_long_that_takes(tmp_path, monkeypatch):
    clock, waits = Clock(), []

    def sleep(seconds):
        waits.append(seconds)
        clock.now += 1000.0

    monkeypatch.setattr("tilestream.engine_process.process_engine.time.sleep", sleep)
    engine = ProcessEngine(EngineProcess(partial(only_once, tmp_path / "m")), standby=False, clock=clock)
    engine.open(SPECS[0])
    os.kill(engine.process_id, signal.SIGKILL)
    with pytest.raises(EngineLost, match=f"started, {MAX_STARTS} times in a row"):
        engine.step(plan())
    assert len(waits) == MAX_STARTS and max(waits) <= 5.0
    engine.close()


def test_a_standby_that_cannot_be_had_is_tried_ever_later(tmp_path, caplog):
    clock = Clock()
    engine = ProcessEngine(EngineProcess(partial(only_once, tmp_path / "m")), clock=clock)
    begun = []
    for _ in range(4):
        while engine.standby_id is None:
            clock.now += 1.0
            engine.check_health()
        begun.append(clock.now)
        while engine.standby_id is not None:
            engine.check_health()
    gaps = np.diff(begun)
    assert (gaps[1:] >= 1.5 * gaps[:-1]).all() and "no room for another one" in caplog.text
    engine.close()


def test_a_dead_standby_is_noticed_between_frames_and_never_promoted():
    clock = Clock()
    engine = ProcessEngine(EngineProcess(FragileEngine), clock=clock)
    engine.open(SPECS[0])
    clock.now += STANDBY_AFTER
    engine.step(plan())
    dead = engine.standby_id
    os.kill(dead, signal.SIGKILL)
    while engine.standby_id == dead:  # frames keep coming: nobody checks its health
        engine.step(plan())
    clock.now += STANDBY_AFTER
    engine.step(plan())
    again = engine.standby_id
    assert again not in (None, dead)
    for process in (again, engine.process_id):
        os.kill(process, signal.SIGKILL)
    assert (engine.step(plan(value=40))[0].labels == 2).all()
    assert engine.process_id != again and engine.report().restarts == 1
    engine.close()


def test_no_process_to_be_had_is_a_failed_start(engine, monkeypatch):
    monkeypatch.setattr("tilestream.engine_process.process_engine.time.sleep", lambda seconds: None)
    refusals = iter([OSError("no descriptors"), EOFError()])

    def refuse(how):
        error = next(refusals, None)
        if error is not None:
            raise error
        return ProcessHandle(how)

    monkeypatch.setattr("tilestream.engine_process.process_engine.ProcessHandle", refuse)
    os.kill(engine.process_id, signal.SIGKILL)
    assert (engine.step(plan(value=40))[0].labels == 2).all()


def test_nothing_is_left_of_it():
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    ProcessEngine(EngineProcess(FragileEngine), standby=False).close()  # starts the server of processes
    before = descriptors()
    for _ in range(3):
        engine = ProcessEngine(EngineProcess(FragileEngine), clock=Clock())
        engine.open(SPECS[0])
        engine.step(plan())
        pid = engine.process_id
        os.kill(pid, signal.SIGKILL)
        engine.step(plan())
        second = engine.process_id
        engine.close()
        engine.close()
        wait_until(lambda pids=(pid, second): not any(Path(f"/proc/{one}").exists() for one in pids))
    assert descriptors() == before


def test_a_server_that_ends_at_once_takes_its_engines_along():
    program = """
import threading
from functools import partial
import numpy as np
from support.fragile_engine import HANGS, FragileEngine
from support.frames import encode
from support.plans import frame_of, plan_of
from tilestream.engine_process import EngineProcess, ProcessEngine
from tilestream.messages import SessionSpec
if __name__ == "__main__":
    engine = ProcessEngine(EngineProcess(FragileEngine), standby=False)
    engine.open(SessionSpec("a", "fake"))
    image = np.full((8, 8, 3), HANGS, np.uint8)
    threading.Thread(target=engine.step, args=(plan_of(frame_of("a", 0, image)),), daemon=True).start()
    print(engine.process_id)
"""
    done = subprocess.run(  # the step takes an hour
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=LONG
    )
    assert done.returncode == 0 and not Path(f"/proc/{int(done.stdout)}").exists()


def test_an_idle_engine_is_asked_how_it_is_doing_once_a_second():
    clock = Clock()
    engine = ProcessEngine(EngineProcess(CountingEngine), standby=False, clock=clock)
    told = []
    for now in (0.0, 0.5, 1.0, 1.5):
        clock.now = now * REPORT_SECONDS
        engine.check_health()
        told.append(engine.report().evictions)
    engine.close()
    assert told[0] == told[1] < told[2] == told[3]
