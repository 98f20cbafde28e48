"""What a session may compute in the long run, whatever its frames show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilestream.scheduling.credit import MOST_SAVED, Credit, pays_for_whole

shares = st.floats(0.0, 1.0)
phases = st.floats(0.0, 1.0)


def begun(phase: float = 0.0) -> Credit:
    """An account after its first frame, which was computed in full."""
    credit = Credit(phase)
    credit.charge(0.5, 1.0)
    return credit


def play(credit: Credit, budget: float, wants: list[float]) -> list[float]:
    """What is computed of frames that want so much: as much as there is credit for."""
    computed = []
    for want in wants:
        share = min(want, max(0.0, credit.with_budget(budget)))
        credit.charge(budget, share)
        computed.append(share)
    return computed


@given(phases, st.lists(st.tuples(shares, shares)))
def test_what_is_saved_and_what_is_owed_is_bounded(phase, frames):
    credit = Credit(phase)
    for budget, share in frames:
        credit.charge(budget, share)
        assert -MOST_SAVED <= credit.balance <= MOST_SAVED


@given(phases, st.floats(0.01, 1.0), st.lists(shares, min_size=1))
def test_the_share_in_the_long_run_is_the_budget_and_one_frame_at_most(phase, budget, wants):
    computed = play(begun(phase), budget, wants)
    assert sum(computed) / len(computed) <= budget + 1.0 / len(computed) + 1e-6


@given(phases, st.floats(0.01, 1.0), st.integers(1, 400))
def test_whole_frames_keep_to_the_budget_too(phase, budget, count):
    credit, whole = begun(phase), 0
    for _ in range(count):
        due = credit.pays_for_whole(budget)
        credit.charge(budget, float(due))
        whole += due
    assert count * budget - 1.0 < whole + 1e-3 and whole / count <= budget + 1.0 / count + 1e-6


@pytest.mark.parametrize("every", range(1, 13))
def test_whole_frames_come_as_often_as_the_budget_says(every):
    credit = begun()
    due = []
    for _ in range(10 * every):
        due.append(credit.pays_for_whole(1.0 / every))
        credit.charge(1.0 / every, float(due[-1]))
    assert due == ([False] * (every - 1) + [True]) * 10


@given(phases, shares, shares)
def test_the_first_frame_is_free(phase, budget, share):
    credit = Credit(phase)
    assert credit.fresh and credit.balance == phase
    credit.charge(budget, share)
    assert not credit.fresh and credit.balance == phase


@given(phases, st.lists(st.tuples(shares, shares)))
def test_a_restart_is_a_new_account(phase, frames):
    credit = Credit(phase)
    for budget, share in frames:
        credit.charge(budget, share)
    credit.restart()
    assert (credit.fresh, credit.balance) == (True, phase)


def test_nothing_is_due_without_a_budget():
    assert not begun(1.0).pays_for_whole(0.0)
    assert begun(1.0).pays_for_whole(0.001) and begun(0.75).pays_for_whole(0.25)


def test_rounding_makes_no_frame_late():
    assert pays_for_whole(sum([0.1] * 10)) and not pays_for_whole(0.999)
