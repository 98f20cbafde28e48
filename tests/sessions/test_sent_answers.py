from hypothesis import given
from hypothesis import strategies as st

from tilestream.sessions.sent_answers import SentAnswers

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 60)), st.tuples(st.just("confirm"), st.integers(0, 40))
    )
)


@given(steps, st.integers(0, 5), st.integers(0, 150))
def test_what_it_says_it_has_it_has_and_it_stays_within_its_bounds(steps, count, size):
    kept: SentAnswers[int] = SentAnswers(count, size)
    sent: dict[int, int] = {}
    for kind, value in steps:
        if kind == "add":
            frame_id = 2 * len(sent)
            sent[frame_id] = value
            kept.add(frame_id, frame_id, value)
        else:
            kept.confirm(value)
        assert len(kept) <= count and sum(sent[one] for one in kept.messages) <= size
        for client_has in (None, *range(-1, 2 * len(sent) + 1)):
            start = -1 if client_has is None else client_has
            wanted = [one for one in sent if one > start]
            there = [one for one in kept.messages if one > start]
            assert kept.reaches_back_to(client_has) == (there == wanted)


def test_answers_that_were_confirmed_are_not_missed():
    kept: SentAnswers[str] = SentAnswers(2, 1000)
    kept.add(1, "a", 10)
    kept.confirm(1)
    for frame_id in (2, 3):
        kept.add(frame_id, "b", 10)
    assert kept.reaches_back_to(1) and kept.messages == ["b", "b"]
    kept.add(4, "c", 10)
    assert not kept.reaches_back_to(1) and kept.reaches_back_to(2)
