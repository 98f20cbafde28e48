from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilestream.messages import (
    DropReason,
    Failure,
    Frame,
    FrameStats,
    InvalidReason,
    Outcome,
    Picture,
    SessionSpec,
)
from tilestream.scheduling.cost_model import Work
from tilestream.scheduling.overload import Level
from tilestream.scheduling.scheduler import Limits, Scheduler

PICTURE = Picture(480, 360, (480, 360))


def frame(session: str, frame_id: int) -> Frame:
    return Frame(session, frame_id, PICTURE, submitted=0.001 * frame_id)


def plan_of(scheduler: Scheduler) -> list[tuple[str, int]]:
    return [(frame.session_id, frame.frame_id) for frame, _ in scheduler.schedule(0.0).frames]


def scheduler_with(*sessions: str, max_batch: int = 4, **weights: float) -> Scheduler:
    scheduler = Scheduler(Limits(max_batch, max_step_seconds=1e9))
    for session in sessions:
        scheduler.add(SessionSpec(session, "model", weights.get(session, 1.0)))
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
        Scheduler(Limits(0))
    with pytest.raises(ValueError, match="weight: 0"):
        Scheduler().add(SessionSpec("a", "model", 0))


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


def computed(scheduler: Scheduler, plan, seconds: float, now: float, share: float = 1.0) -> None:
    """Every frame of a plan was computed to this share."""
    outcomes = tuple(
        Outcome(frame.session_id, frame.frame_id, stats=FrameStats(share == 1.0, round(100 * share), 100))
        for frame, _ in plan.frames
    )
    scheduler.done(outcomes, seconds, now)


def test_the_earliest_deadline_comes_first():
    scheduler = scheduler_with("a", "b", "c", max_batch=1)
    for name, submitted in (("a", 0.03), ("b", 0.01), ("c", 0.02)):
        scheduler.offer(replace(frame(name, 1), submitted=submitted))
    assert [plan_of(scheduler)[0][0] for _ in range(3)] == ["b", "c", "a"]


def test_a_fast_camera_does_not_take_a_slow_ones_share():
    """Both want more than half. Every step takes 50 ms; the fast one always has older frames waiting."""
    scheduler = scheduler_with("fast", "slow", max_batch=1)
    served, now, next_id = Counter(), 0.0, Counter()
    for _ in range(400):
        for name, period in (("fast", 1 / 60), ("slow", 1 / 15)):
            while next_id[name] * period <= now:
                scheduler.offer(replace(frame(name, next_id[name]), submitted=next_id[name] * period))
                next_id[name] += 1
        plan = scheduler.schedule(now)
        served.update(frame.session_id for frame, _ in plan.frames)
        now += 0.05
        computed(scheduler, plan, 0.05, now)
    assert served["slow"] / served["fast"] == pytest.approx(1.0, abs=0.1)


def test_shares_are_of_time_and_not_of_frames():
    scheduler = scheduler_with("small", "large", max_batch=1)
    spent, now = Counter(), 0.0
    for number in range(300):
        scheduler.offer(frame("small", number))
        large = Picture(960, 720, (960, 720))
        scheduler.offer(replace(frame("large", number), picture=large))
        plan = scheduler.schedule(now)
        ((planned, _),) = plan.frames
        seconds = 0.05 if planned.session_id == "small" else 0.2
        now += seconds
        spent[planned.session_id] += seconds
        computed(scheduler, plan, seconds, now)
    assert spent["small"] / spent["large"] == pytest.approx(1.0, abs=0.1)


def test_a_step_has_as_many_frames_as_its_time_allows():
    scheduler = Scheduler(Limits(64, max_step_seconds=0.11, min_budget=1.0))
    now = 0.0
    for number in range(60):  # two frames of 50 ms fit, three do not
        for name in "abcd":
            if not number:
                scheduler.add(SessionSpec(name, "model"))
            scheduler.offer(frame(name, number))
        plan = scheduler.schedule(now)
        now += 0.05 * len(plan.frames)
        computed(scheduler, plan, 0.05 * len(plan.frames), now)
        if number > 20:
            assert 1 <= len(plan.frames) <= 2


def test_one_frame_is_taken_however_long_it_is():
    scheduler = Scheduler(Limits(max_step_seconds=1e-6))
    scheduler.add(SessionSpec("a", "model"))
    scheduler.offer(frame("a", 0))
    assert len(plan_of(scheduler)) == 1


def test_new_sessions_get_half_of_the_time_at_most_while_others_wait():
    scheduler = Scheduler(Limits(max_step_seconds=0.06, min_budget=1.0))
    scheduler.add(SessionSpec("old", "model"))
    scheduler.offer(frame("old", 0))
    computed(scheduler, scheduler.schedule(0.0), 0.05, 0.05)
    for index in range(20):
        scheduler.add(SessionSpec(f"new{index}", "model"))
        scheduler.offer(frame(f"new{index}", 0))
    now, run = 0.05, []
    for number in range(1, 60):
        scheduler.offer(frame("old", number))
        plan = scheduler.schedule(now)
        run.append({planned.session_id == "old" for planned, _ in plan.frames})
        now += 0.05 * len(plan.frames)
        computed(scheduler, plan, 0.05 * len(plan.frames), now)
    without_old = [sum(1 for names in run[i : i + 2] if True not in names) for i in range(38)]
    assert max(without_old) <= 1, "never two steps in a row without the session that was there"
    assert sum(1 for names in run if False in names) == 20, "and all of them come"


def test_a_session_whose_frame_failed_is_expected_to_need_a_whole_one():
    scheduler = scheduler_with("a")
    for number, share in enumerate((1.0, 0.0)):
        scheduler.offer(replace(frame("a", number), budget=0.25))
        computed(scheduler, scheduler.schedule(0.0), 0.05 if share else 0.005, 0.0, share)
    cheap = scheduler._queues["a"].work(replace(frame("a", 2), budget=0.25), 0.25)
    scheduler.offer(frame("a", 2))
    scheduler.schedule(0.0)
    failure = Failure.dropped(DropReason.ENGINE_ERROR, "no")
    scheduler.done((Outcome("a", 2, failure=failure),), 0.01, 0.0)
    dear = scheduler._queues["a"].work(replace(frame("a", 3), budget=0.25), 0.25)
    assert (cheap.share, dear.share) == (0.0, 1.0)


def test_a_frame_that_cannot_be_used_costs_its_session_nothing():
    scheduler = scheduler_with("a")
    scheduler.offer(frame("a", 0))
    computed(scheduler, scheduler.schedule(0.0), 0.05, 0.0)
    scheduler.offer(replace(frame("a", 1), budget=0.25))
    computed(scheduler, scheduler.schedule(0.0), 0.005, 0.0, 0.0)
    account = scheduler._queues["a"].credit
    scheduler.offer(replace(frame("a", 2), budget=0.25))
    scheduler.schedule(0.0)
    scheduler.done((Outcome("a", 2, failure=Failure.invalid(InvalidReason.CORRUPT)),), 0.01, 0.0)
    assert (account.fresh, account.balance) == (False, 0.25)


def test_a_session_may_go_while_its_frame_is_computed():
    scheduler = scheduler_with("a", "b")
    for name in "ab":
        scheduler.offer(frame(name, 1))
    plan = scheduler.schedule(0.0)
    scheduler.remove("a")
    computed(scheduler, plan, 0.1, 0.1)
    assert scheduler.waiting() == 0


def test_frames_of_which_nothing_will_be_computed_share_a_step_with_a_whole_one():
    """A whole frame takes 50 ms here, one of which nothing is computed 5."""
    scheduler = Scheduler(Limits(max_step_seconds=0.09))
    for _ in range(50):
        scheduler.costs.learn([Work("model", 0.1728, True, 1.0)], 0.051)
        scheduler.costs.learn([Work("model", 0.1728, False, 0.0)], 0.006)
    names = [f"s{index}" for index in range(9)]
    for name in names:
        scheduler.add(SessionSpec(name, "model", phase=0.5 if name in ("s0", "s1") else 0.0))
        scheduler.offer(replace(frame(name, 0), budget=0.25))
    while scheduler.waiting():  # first frames, all of them whole
        plan = scheduler.schedule(0.0)
        assert len(plan.frames) == 1
        computed(scheduler, plan, 0.051, 0.0)
    sizes = []
    for number in (1, 2):
        for name in names:
            scheduler.offer(replace(frame(name, number), budget=0.25))
        plan = scheduler.schedule(0.0)
        sizes.append(len(plan.frames))
        computed(scheduler, plan, 0.06, 0.0, 0.0)
    assert sizes == [9, 8]  # at the second, s0 and s1 are due: one of them waits for the next step


def due_sessions(*names: str) -> Scheduler:
    """Each is due for a whole frame, of 50 ms; one of which nothing is computed takes 5. Overload stays."""
    scheduler = Scheduler()
    scheduler.control.level = Level.REDUCED
    scheduler.control.update = lambda now: None
    for _ in range(50):
        scheduler.costs.learn([Work("model", 0.1728, True, 1.0)], 0.051)
        scheduler.costs.learn([Work("model", 0.1728, False, 0.0)], 0.006)
    for name in names:
        scheduler.add(SessionSpec(name, "model", phase=0.75))
        scheduler.offer(replace(frame(name, 0), budget=0.25))
        computed(scheduler, scheduler.schedule(0.0), 0.051, 0.0)
    return scheduler


def offer(scheduler: Scheduler, name: str, number: int, submitted: float) -> None:
    scheduler.offer(replace(frame(name, number), budget=0.25, submitted=submitted))


def test_a_whole_frame_that_would_be_late_is_deferred_to_a_later_one():
    scheduler = due_sessions("a")
    limits = []
    for number, waited in enumerate((0.04, 0.04, 0.01), 1):
        offer(scheduler, "a", number, number - waited)
        plan = scheduler.schedule(number)
        limits.append(plan.frames[0][1].limit)
        share = plan.frames[0][1].limit
        computed(scheduler, plan, 0.051 if share else 0.006, number + 0.05, share)
    assert limits == [0.0, 0.0, 1.0]
    offer(scheduler, "a", 4, 4.0)
    assert not scheduler._queues["a"].work(scheduler._queues["a"].frames[0], 0.25).whole, "it has had one"


def test_a_whole_frame_is_deferred_where_it_would_make_others_late():
    scheduler = due_sessions("a")
    scheduler.add(SessionSpec("b", "model"))
    scheduler.offer(replace(frame("b", 0), budget=0.25))
    computed(scheduler, scheduler.schedule(0.0), 0.051, 0.0)
    offer(scheduler, "b", 1, 0.95)
    offer(scheduler, "a", 1, 0.99)
    limits = {planned.session_id: grant.limit for planned, grant in scheduler.schedule(1.0).frames}
    assert limits == {"a": 0.0, "b": 1.0}


def test_a_frame_is_not_deferred_for_ever():
    scheduler = due_sessions("a")
    limits = []
    for number in range(1, 31):
        offer(scheduler, "a", number, number - 0.05)
        queue = scheduler._queues["a"]
        due = queue.work(queue.frames[0], 0.25).whole
        plan = scheduler.schedule(number)
        whole = due and plan.frames[0][1].limit == 1.0
        limits.append(whole)
        computed(scheduler, plan, 0.05, number + 0.05, float(whole))
    first = limits.index(True)
    assert first == 8 and limits[first + 1 :].index(True) <= 8 + 4, "eight frames after it is due again"


def test_nothing_is_deferred_while_budgets_are_not_lowered_or_of_sessions_whose_budget_is_not():
    for level, wanted, limit in (
        (Level.NORMAL, 0.25, 1.0),
        (Level.REDUCED, 0.1, 1.0),
        (Level.REDUCED, 0.2, 0.0),
    ):
        scheduler = due_sessions("a")
        scheduler.control.level = level
        scheduler.offer(replace(frame("a", 1), budget=0.25, submitted=1.0))
        computed(scheduler, scheduler.schedule(1.0), 0.051, 1.05, 0.0)
        scheduler._queues["a"]._quiet = False
        scheduler.offer(replace(frame("a", 2), budget=wanted, submitted=1.9))
        assert scheduler._queues["a"].work(scheduler._queues["a"].frames[0], wanted).whole
        assert [grant.limit for _, grant in scheduler.schedule(2.0).frames] == [limit]


@pytest.mark.parametrize("what", ["asked", "budget", "first"])
def test_what_has_to_be_whole_is_not_deferred(what):
    scheduler = due_sessions("a")
    if what == "first":
        scheduler.invalidate()
    late = replace(frame("a", 1), whole=what == "asked", budget=1.0 if what == "budget" else 0.25)
    scheduler.offer(replace(late, submitted=0.0))
    assert scheduler.schedule(5.0).frames[0][1].limit == 1.0


def test_a_session_that_lets_whole_frames_pass_is_not_expected_to_need_one():
    scheduler = due_sessions("a")
    expected = []
    for number, share in ((1, 0.0), (2, 0.0), (3, 1.0), (4, 0.0), (5, 0.0), (6, 0.0), (7, 0.0)):
        offer(scheduler, "a", number, float(number))
        queue = scheduler._queues["a"]
        expected.append(queue.work(queue.frames[0], 0.25).share)
        computed(scheduler, scheduler.schedule(float(number)), 0.05, number + 0.05, share)
    assert expected == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0], "the sixth is the fourth since the whole one"


def test_sessions_do_not_pay_for_a_restart_of_the_engine():
    scheduler = scheduler_with("hit", "spared", max_batch=1)
    served, now = Counter(), 0.0
    for number in range(40):
        for name in ("hit", "spared"):
            scheduler.offer(frame(name, number))
        plan = scheduler.schedule(now)
        (name,) = (planned.session_id for planned, _ in plan.frames)
        restarted = name == "hit" and not served["hit"]
        seconds = 3.0 if restarted else 0.05
        outcomes = (Outcome(name, plan.frames[0][0].frame_id, stats=FrameStats(True, 100, 100)),)
        now += seconds
        scheduler.done(outcomes, seconds, now, restarted=restarted)
        served[name] += 1
    assert served["hit"] == served["spared"] == 20
    assert scheduler.costs.seconds([Work("model", 0.1728, True, 1.0)]) == pytest.approx(0.05, rel=0.1)


def steps_of_dear_steps(limits: Limits, level: Level) -> list[int]:
    """Frames of each step of an engine whose steps take 30 ms, whatever is in them."""
    scheduler = Scheduler(limits)
    scheduler.control.level = level
    scheduler.control.update = lambda now: None
    for index in range(64):
        scheduler.add(SessionSpec(f"s{index}", "model"))
    sizes = []
    for number in range(40):
        for index in range(64):
            scheduler.offer(replace(frame(f"s{index}", number), submitted=0.03 * number))
        plan = scheduler.schedule(0.03 * number)
        sizes.append(len(plan.frames))
        computed(scheduler, plan, 0.03 + 1e-5 * len(plan.frames), 0.03 * number + 0.03)
    return sizes


def test_two_frames_are_tried_while_frames_are_dropped_and_steps_had_one_each():
    sizes = steps_of_dear_steps(Limits(min_budget=1.0), Level.SHEDDING)
    assert set(sizes[:16]) == {1} and sizes.index(2) < 20 and sizes[-1] > 20
    assert set(steps_of_dear_steps(Limits(min_budget=1.0), Level.NORMAL)) == {1}
    assert set(steps_of_dear_steps(Limits(max_step_seconds=0.05), Level.SHEDDING)) == {1}, "as it was told"
