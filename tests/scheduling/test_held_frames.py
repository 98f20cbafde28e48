"""Which of the frames that wait for later ones can wait no longer."""

import math

import numpy as np
import pytest

from tilestream.messages import Failure, Frame, FrameStats, InvalidReason, Outcome, Picture, SessionSpec
from tilestream.scheduling.held_frames import HeldFrames
from tilestream.scheduling.scheduler import Scheduler

PICTURE = Picture(8, 8, (8, 8), np.zeros((8, 8, 3), np.uint8))
STATS = FrameStats(False, 0, 10)


def frame(number: int, captured: float, session: str = "a") -> Frame:
    return Frame(session, number, PICTURE, budget=0.25, captured=captured)


def held(*captured: float, now: float = 100.0) -> HeldFrames:
    frames = HeldFrames()
    for number, when in enumerate(captured):
        frames.add(frame(number, when), 1.0)
        frames.saw(frame(number, when), now)
    return frames


def test_a_stalled_camera_s_frames_wait_for_what_is_left_of_the_delay():
    frames = held(0.0, 0.4, 0.7)
    assert frames.next_due(()) == pytest.approx(100.3)
    assert frames.due(100.29, ()) == ()
    assert frames.due(100.31, ()) == (("a", 0),)
    assert frames.due(100.71, ()) == (("a", 1),)
    assert frames.due(101.0, ()) == (("a", 2),)
    assert frames.due(200.0, {"a"}) == () and frames.next_due({"a"}) == math.inf


def test_a_camera_s_clock_may_jump():
    frames = held(50.0, 7.0)
    assert frames.next_due(()) == pytest.approx(101.0)
    assert frames.due(101.0, ()) == (("a", 1),)


def test_all_is_due_once_no_more_frames_come():
    frames = held(0.0, 0.1)
    frames.finish("a")
    assert frames.due(0.0, ()) == (("a", 1),)
    frames.forget("a")
    assert frames.due(1e9, ()) == () and not len(frames)


def stepped(scheduler: Scheduler, number: int, outcome: Outcome, late=(), **options):
    scheduler.offer(frame(number, number / 10))
    plan = scheduler.schedule(0.0)
    assert [each.frame_id for each, _ in plan.frames] == [number]
    return scheduler.done((outcome,), 0.01, 0.0, late=late, **options)


@pytest.fixture
def scheduler():
    scheduler = Scheduler()
    scheduler.add(SessionSpec("a", "m", max_delay=10.0))
    for number in range(3):
        assert stepped(scheduler, number, Outcome("a", number, stats=STATS)) == []
    assert len(scheduler.held) == 3
    return scheduler


LABELS = np.zeros((8, 8), np.uint8)


def test_frames_that_the_engine_forgot_are_told_of(scheduler):
    late = [Outcome("a", 1, LABELS, STATS)]
    whole = Outcome("a", 3, LABELS, FrameStats(True, 10, 10))
    assert stepped(scheduler, 3, whole, late) == [("a", 0), ("a", 2)]
    assert not len(scheduler.held)


def test_a_failed_frame_takes_those_that_wait_with_it_and_an_invalid_one_none(scheduler):
    invalid = Outcome("a", 3, failure=Failure.invalid(InvalidReason.CORRUPT))
    assert stepped(scheduler, 3, invalid) == []
    failed = Outcome.failed(frame(4, 0.4), "out of luck")
    assert stepped(scheduler, 4, failed) == [("a", 0), ("a", 1), ("a", 2)]


def test_what_is_due_is_planned_and_lost_where_no_outcome_comes(scheduler):
    assert scheduler.due_in(5.0) == pytest.approx(4.8)
    plan = scheduler.schedule(10.0)
    assert plan.frames == () and plan.due == (("a", 2),)
    assert scheduler.done((), 0.0, 10.0, late=[Outcome("a", 0, LABELS, STATS)], due=plan.due) == [
        ("a", 1),
        ("a", 2),
    ]


def test_a_restart_of_the_engine_loses_all_that_waits(scheduler):
    assert scheduler.invalidate() == [("a", 0), ("a", 1), ("a", 2)]
    assert scheduler.invalidate() == []


def test_bins_that_are_computed_late_are_paid_for(scheduler):
    credit = scheduler._queues["a"].credit
    before = credit.balance
    late = [Outcome("a", number, LABELS, FrameStats(False, 3 * (number == 1), 10)) for number in range(3)]
    stepped(scheduler, 3, Outcome("a", 3, LABELS, FrameStats(False, 0, 10)), late)
    assert credit.balance == pytest.approx(before + 0.25 - 0.3)
