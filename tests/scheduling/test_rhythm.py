"""The rhythm of refreshes: it spends what the budget pays, and the scheduler foresees it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilestream.messages import Frame, FrameStats, Grant, Picture, SessionSpec
from tilestream.scheduling.credit import Credit
from tilestream.scheduling.rhythm import Rhythm
from tilestream.scheduling.session_queue import SessionQueue, Share


def played(budget: float, frames: int, phase: float = 0.0) -> list[float]:
    """The share of every frame after the first, by the rules that gate and engine keep."""
    credit, since, refreshed, shares = Credit(phase), 0, 0, []
    credit.charge(budget, 1.0)
    rhythm = Rhythm.of(budget)
    for _ in range(frames):
        since += 1
        share = 0.0
        if credit.pays_for_whole(budget):
            share = 1.0
        elif rhythm.due(since, refreshed):
            share = min(rhythm.share, max(credit.with_budget(budget), 0.0))
        credit.charge(budget, share)
        if share:
            since, refreshed = 0, 0 if share == 1.0 else refreshed + 1
        shares.append(share)
    return shares


@given(st.floats(0.05, 0.6), st.floats(0, 0.99))
def test_what_is_spent_is_the_budget(budget, phase):
    frames = 2000
    assert sum(played(budget, frames, phase)) / frames == pytest.approx(budget, abs=2.0 / frames + 1e-6)


@given(st.floats(0.03, 0.3))
def test_refreshes_lie_evenly_between_whole_frames(budget):
    rhythm, shares = Rhythm.of(budget), played(budget, 1000)
    places = [index for index, share in enumerate(shares) if share]
    gaps = [after - before for before, after in pairwise(places)]
    assert max(gaps) <= rhythm.period + 2 and min(gaps) >= rhythm.period - 2


def test_the_rhythm_of_a_budget():
    rhythm = Rhythm.of(1.7 / 12)
    assert (rhythm.refreshes, rhythm.share) == (2, 0.35) and rhythm.period == pytest.approx(4)
    assert [rhythm.due(since, 0) for since in (3, 4, 5)] == [False, True, True]
    assert not rhythm.due(9, 2)


@pytest.mark.parametrize("budget", [0.1, 1.7 / 12, 0.25])
def test_the_scheduler_foresees_what_is_computed(budget):
    queue = SessionQueue(0, SessionSpec("s", "m", refreshes=True), Share(1.0))
    foreseen = []
    for number, share in enumerate([1.0, *played(budget, 60)]):
        frame = Frame("s", number, Picture(480, 360, (480, 360)), budget=budget)
        work = queue.work(frame, budget)
        foreseen.append(1.0 if work.whole else work.share)
        queue.account(frame, Grant(budget), FrameStats(share == 1.0, round(1000 * share), 1000))
    assert foreseen == pytest.approx([1.0, *played(budget, 60)], abs=1e-3)
