"""When rules begin and end, by capture time."""

from hypothesis import given
from hypothesis import strategies as st

from tilestream.results.findings import Event, EventKind
from tilestream.results.rules import RuleBook
from tilestream.results.wishes import Rule

BEGAN, ENDED = EventKind.BEGAN, EventKind.ENDED
MS = 1000


def told(for_ms: int, frames: list[tuple[int, bool]]) -> list[tuple[int, EventKind, int]]:
    """(time of the frame, kind, time of the event), milliseconds; ``frames``: time, whether it is above."""
    book = RuleBook((Rule("r", (1,), for_ms=for_ms),))
    return [
        (time, event.kind, event.time_us // MS)
        for time, above in frames
        for event in book.observe((above,), time * MS)
    ]


def test_without_a_time_it_begins_and_ends_at_once():
    assert told(0, [(0, False), (10, True), (20, True), (30, False), (40, True)]) == [
        (10, BEGAN, 10), (30, ENDED, 30), (40, BEGAN, 40),
    ]  # fmt: skip


def test_it_has_to_hold_for_its_time_and_tells_since_when():
    frames = [(0, True), (60, True), (100, True), (150, False), (200, True), (210, False), (310, False)]
    assert told(100, frames) == [(100, BEGAN, 0), (310, ENDED, 210)]


def test_a_flicker_is_no_event():
    assert told(100, [(t, t % 40 == 0) for t in range(0, 1000, 20)]) == []


def test_a_gap_of_dropped_frames_is_as_the_frame_before_it():
    assert told(100, [(0, True), (5000, True)]) == [(5000, BEGAN, 0)]
    assert told(100, [(0, True), (100, True), (9000, True), (9100, False), (9200, False)]) == [
        (100, BEGAN, 0), (9200, ENDED, 9100),
    ]  # fmt: skip


def test_where_time_goes_back_it_is_counted_anew():
    assert told(100, [(1000, True), (10, True), (60, True), (110, True)]) == [(110, BEGAN, 10)]


def test_rules_are_told_in_their_order():
    book = RuleBook((Rule("a", (1,)), Rule("b", (2,)), Rule("c", (3,))))
    assert book.observe((True, False, True), 7) == (Event("a", BEGAN, 7), Event("c", BEGAN, 7))
    assert book.observe((False, True, True), 9) == (Event("a", ENDED, 9), Event("b", BEGAN, 9))


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60), st.integers(0, 500))
def test_begins_and_ends_take_turns(steps, for_ms):
    time, frames = 0, []
    for step, above in steps:
        time += step
        frames.append((time, above))
    events = told(for_ms, frames)
    assert [kind for _, kind, _ in events] == [BEGAN, ENDED] * (len(events) // 2) + [BEGAN] * (
        len(events) % 2
    )
    assert all(at - since >= for_ms for at, _, since in events)
