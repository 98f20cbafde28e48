from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilestream.scheduling.scheduler import ReadyFrame, Scheduler

IMAGE = np.zeros((8, 8, 3), np.uint8)


def frame(session: str, frame_id: int) -> ReadyFrame:
    return ReadyFrame(session, frame_id, IMAGE)


def plan_of(scheduler: Scheduler) -> list[tuple[str, int]]:
    return [(job.session_id, job.frame_id) for job in scheduler.schedule(0.0).jobs]


def scheduler_with(*sessions: str, max_batch: int = 4, **weights: float) -> Scheduler:
    scheduler = Scheduler(max_batch)
    for session in sessions:
        scheduler.add(session, weights.get(session, 1.0))
    return scheduler


def test_nothing_waits():
    assert plan_of(scheduler_with("a")) == []


def test_one_frame_of_a_session_per_step_in_order():
    scheduler = scheduler_with("a", "b")
    for i in range(3):
        scheduler.offer(frame("a", i))
    scheduler.offer(frame("b", 7))
    assert plan_of(scheduler) == [("a", 0), ("b", 7)]
    assert plan_of(scheduler) == [("a", 1)]
    assert plan_of(scheduler) == [("a", 2)]
    assert scheduler.waiting() == 0


def test_batches_are_bounded_and_go_round():
    names = [f"s{i}" for i in range(5)]
    scheduler = scheduler_with(*names, max_batch=2)
    for i in range(4):
        for name in names:
            scheduler.offer(frame(name, i))
    served = Counter()
    for _ in range(5):
        plan = plan_of(scheduler)
        assert len(plan) == 2
        served.update(name for name, _ in plan)
    assert set(served.values()) == {2}


def test_weights_share_the_engine():
    scheduler = scheduler_with("light", "heavy", max_batch=1, heavy=3.0)
    served = Counter()
    for i in range(400):
        for name in ("light", "heavy"):
            scheduler.offer(frame(name, i))
        served.update(name for name, _ in plan_of(scheduler))
    assert served["heavy"] / served["light"] == pytest.approx(3.0, rel=0.05)


def test_a_session_that_paused_does_not_catch_up():
    scheduler = scheduler_with("busy", "paused", max_batch=1)
    for i in range(50):
        scheduler.offer(frame("busy", i))
        plan_of(scheduler)
    for i in range(50, 60):
        scheduler.offer(frame("busy", i))
        scheduler.offer(frame("paused", i))
    served = Counter(plan_of(scheduler)[0][0] for _ in range(10))
    assert served["paused"] in (5, 6)


def test_withdraw():
    scheduler = scheduler_with("a")
    scheduler.offer(frame("a", 1))
    scheduler.offer(frame("a", 2))
    assert scheduler.withdraw("a", 1)
    assert not scheduler.withdraw("a", 1)
    assert not scheduler.withdraw("nobody", 1)
    assert plan_of(scheduler) == [("a", 2)]
    assert not scheduler.withdraw("a", 2), "a plan has it"


def test_unknown_and_removed_sessions():
    scheduler = scheduler_with("a")
    assert not scheduler.offer(frame("nobody", 1))
    assert scheduler.offer(frame("a", 1))
    scheduler.remove("a")
    scheduler.remove("a")
    assert plan_of(scheduler) == []
    assert not scheduler.offer(frame("a", 2))


def test_bad_settings():
    with pytest.raises(ValueError, match="max_batch: 0; allowed: at least 1"):
        Scheduler(0)
    with pytest.raises(ValueError, match="weight: 0"):
        Scheduler(1).add("a", 0)


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=80))
def test_everything_offered_comes_once_in_order_and_nobody_starves(max_batch, actions):
    scheduler = scheduler_with(*"abcdef", max_batch=max_batch)
    offered, planned = [], []
    for number, (name, step) in enumerate(actions):
        offered.append((name, number))
        scheduler.offer(frame(name, number))
        if step:
            plan = plan_of(scheduler)
            assert len(plan) <= max_batch and len({session for session, _ in plan}) == len(plan)
            planned += plan
    while plan := plan_of(scheduler):
        planned += plan
    for name in "abcdef":
        assert [p for p in planned if p[0] == name] == [o for o in offered if o[0] == name]


def test_a_waiting_session_is_served_within_one_round():
    names = [f"s{i}" for i in range(10)]
    scheduler = scheduler_with(*names, max_batch=3)
    for i in range(200):
        for name in names:
            scheduler.offer(frame(name, i))
    last = dict.fromkeys(names, 0)
    for step in range(1, 300):
        for name, _ in plan_of(scheduler):
            assert step - last[name] <= 4  # ten sessions, three at a time
            last[name] = step
