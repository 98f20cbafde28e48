import itertools

import pytest

from support.fake_engine import fake_model
from tilestream.access.caller import Caller
from tilestream.media.masks import MaskFormat
from tilestream.messages import DropReason, Failure, FrameStats
from tilestream.sessions.frames import Answer, Status
from tilestream.sessions.inbox import QueuePolicy
from tilestream.sessions.registry import ServerDraining, ServerOverloaded, SessionRegistry, TooManySessions
from tilestream.sessions.session import (
    TRANSITIONS,
    CloseCause,
    FrameOrderError,
    IllegalTransition,
    Session,
    SessionOptions,
    SessionState,
)
from tilestream.sessions.stats import WINDOW_SECONDS, SessionStats, percentile

CALLER = Caller("", "ipv4:192.0.2.1:5000")


def options() -> SessionOptions:
    return SessionOptions(
        "cam", fake_model(), MaskFormat.PNG, QueuePolicy.WAIT, 2, None, None, None, 1.0, False, False
    )


def session() -> Session:
    return Session("s-1", 1, options(), 0.0, CALLER)


def test_only_the_table_s_transitions_are_possible():
    for before, after in itertools.product(SessionState, SessionState):
        one = session()
        one.state = before
        if after in TRANSITIONS[before]:
            one.move_to(after)
            assert one.state is after
        else:
            with pytest.raises(IllegalTransition):
                one.move_to(after)
            assert one.state is before


def test_every_state_leads_to_the_end():
    for state in SessionState:
        assert state is SessionState.CLOSED or SessionState.CLOSED in TRANSITIONS[state]


def test_frame_ids_increase():
    one = session()
    for frame_id in (0, 1, 5, 2**64 - 1):
        one.check_order(frame_id)
        one.accepted(frame_id)
    with pytest.raises(FrameOrderError, match=r"frame.frame_id: 5 after 18446744073709551615"):
        one.check_order(5)
    with pytest.raises(FrameOrderError):
        one.accepted(2**64 - 1)
    assert one.last_frame_id == 2**64 - 1


def test_a_frame_that_is_only_looked_at_is_not_accepted():
    one = session()
    one.check_order(7)
    assert one.last_frame_id is None


def test_admission_and_places_that_become_free():
    closed = []
    registry = SessionRegistry(2, 1.5, lambda one, cause: closed.append((one.session_id, cause)))
    first, second = registry.open(options(), CALLER), registry.open(options(), CALLER)
    with pytest.raises(TooManySessions, match="all 2 sessions") as caught:
        registry.open(options(), CALLER)
    assert caught.value.retry_seconds == 1.5
    registry.close(first, CloseCause.FINISHED)
    registry.close(first, CloseCause.ERROR)  # idempotent
    assert closed == [(first.session_id, CloseCause.FINISHED)]
    third = registry.open(options(), CALLER)
    assert [one.number for one in registry] == [second.number, third.number] == [2, 3]
    assert len({first.session_id, second.session_id, third.session_id}) == 3


def test_a_draining_registry_admits_nobody():
    registry = SessionRegistry(2, 1.5)
    registry.draining = True
    with pytest.raises(ServerDraining):
        registry.open(options(), CALLER)


def ok(units: int, budget: float = 1.0) -> Answer:
    return Answer(stats=FrameStats(False, units, 100, budget=budget))


def test_stats_roll():
    stats = SessionStats(opened=0.0)
    for i in range(100):  # 10 a second
        stats.add(ok(25, 0.5), latency=0.001 * (i + 1), now=0.1 * (i + 1))
    stats.add(Answer(Failure.dropped(DropReason.OVERLOAD)), 9.0, 10.0)
    rates = stats.rates(10.0)
    assert rates.fps == pytest.approx(10.0)
    assert rates.latency_p50 == pytest.approx(0.051)
    assert rates.latency_p99 == pytest.approx(0.100)
    assert rates.block_drop_rate == pytest.approx(0.75)
    assert stats.block_budget == 0.5
    assert stats.answered[Status.OK] == 100 and stats.answered[Status.DROPPED] == 1
    assert stats.rates(10.0 + WINDOW_SECONDS / 2).fps == pytest.approx(5.0, abs=0.2)
    assert stats.rates(100.0).fps == 0.0


def test_the_agreement_of_many_pixels_counts_for_more():
    stats = SessionStats(opened=0.0)
    stats.add(ok(25), 0.01, 1.0)
    assert stats.rates(1.0).agreement is None
    for now, agreement, pixels in ((2.0, 1.0, 300), (3.0, 0.6, 100), (4.0, None, 0)):
        found = FrameStats(False, 25, 100, agreement=agreement, agreement_pixels=pixels)
        stats.add(Answer(stats=found), 0.01, now)
    assert stats.rates(4.0).agreement == pytest.approx(0.9)
    assert stats.rates(2.5 + WINDOW_SECONDS).agreement == pytest.approx(0.6)
    assert stats.rates(100.0).agreement is None


def test_stats_of_a_young_session_and_of_a_very_fast_one():
    stats = SessionStats(opened=100.0)
    assert stats.rates(100.0).fps == 0.0
    stats.add(ok(1), 0.01, 100.5)
    assert stats.rates(100.5).fps == pytest.approx(2.0)
    for i in range(10_000):  # 10,000 a second
        stats.add(ok(1), 0.01, 101.0 + i / 10_000)
    assert stats.rates(102.0).fps == pytest.approx(10_000, rel=0.01)


def test_percentile():
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0


def test_overload_is_told_before_fullness_so_that_nobody_gives_way_for_nothing():
    overloaded = [False]
    registry = SessionRegistry(1, 1.5, overloaded=lambda: overloaded[0])
    registry.open(options(), CALLER)
    with pytest.raises(TooManySessions):
        registry.admit(CALLER)
    overloaded[0] = True
    with pytest.raises(ServerOverloaded):
        registry.admit(CALLER)
