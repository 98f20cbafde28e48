from hypothesis import given
from hypothesis import strategies as st

from tilestream.messages import DropReason
from tilestream.sessions.frames import Answer, Stage, Status, Ticket
from tilestream.sessions.inbox import MAX_UNSENT, Inbox, QueuePolicy

OK = Answer()


class Desk:
    """An inbox with a scheduler that has only what is not in ``engine``."""

    def __init__(self, policy: QueuePolicy, limit: int = 2) -> None:
        self.engine: set[int] = set()
        self.inbox = Inbox(policy, limit, lambda ticket: ticket.frame_id not in self.engine)
        self.made = 0

    def offer(self) -> Ticket | None:
        self.made += 1
        ticket = Ticket(self.made, 0, 0.0)
        return ticket if self.inbox.offer(ticket) else None

    def compute(self, ticket: Ticket) -> None:
        ticket.stage = Stage.SUBMITTED
        self.engine.add(ticket.frame_id)

    def send(self) -> list[tuple[int, Status]]:
        sent = []
        while (ticket := self.inbox.head()) is not None:
            sent.append((ticket.frame_id, ticket.answer.status))
            self.inbox.pop()
        return sent


def dropped_for(ticket: Ticket) -> DropReason | None:
    return ticket.answer.failure.reason if ticket.answer and ticket.answer.failure else None


def test_wait_refuses_when_full_and_drops_nothing():
    desk = Desk(QueuePolicy.WAIT)
    first, second = desk.offer(), desk.offer()
    assert desk.offer() is None
    assert first.answer is None and second.answer is None
    first.resolve(OK)
    assert desk.inbox.in_flight == 2, "an answer counts until it is sent"
    assert desk.send() == [(1, Status.OK)]
    assert desk.offer() is not None


def test_wait_with_one_in_flight():
    desk = Desk(QueuePolicy.WAIT, limit=1)
    assert desk.offer() and not desk.offer()


def test_drop_oldest_drops_the_oldest_that_waits():
    desk = Desk(QueuePolicy.DROP_OLDEST)
    first, second = desk.offer(), desk.offer()
    desk.compute(first)
    third = desk.offer()
    assert third is not None
    assert first.answer is None and dropped_for(second) is DropReason.QUEUE_FULL
    assert desk.inbox.in_flight == 2
    first.resolve(OK)
    third.resolve(OK)
    assert desk.send() == [(1, Status.OK), (2, Status.DROPPED), (3, Status.OK)]
    assert desk.inbox.in_flight == 0


def test_drop_oldest_waits_if_all_are_beyond_dropping():
    desk = Desk(QueuePolicy.DROP_OLDEST)
    for ticket in (desk.offer(), desk.offer()):
        desk.compute(ticket)
        ticket.stage = Stage.ENCODING
    assert desk.offer() is None


def test_latest_only_keeps_one_waiting_frame_even_with_room():
    desk = Desk(QueuePolicy.LATEST_ONLY, limit=5)
    first = desk.offer()
    desk.compute(first)
    second, third = desk.offer(), desk.offer()
    assert dropped_for(second) is DropReason.SUPERSEDED
    assert first.answer is None and third.answer is None


def test_dropping_policies_always_have_a_place_to_wait():
    for policy in (QueuePolicy.DROP_OLDEST, QueuePolicy.LATEST_ONLY):
        desk = Desk(policy, limit=1)
        desk.compute(desk.offer())
        assert desk.offer() is not None


def test_answers_that_nobody_reads_are_bounded():
    desk = Desk(QueuePolicy.LATEST_ONLY)
    desk.compute(desk.offer())
    for _ in range(3 * MAX_UNSENT):
        desk.offer()
    assert len(desk.inbox) <= MAX_UNSENT


def test_dropping_stops_the_work():
    desk = Desk(QueuePolicy.LATEST_ONLY)
    stopped = []
    first = desk.offer()
    first.on_drop = lambda: stopped.append(1)
    desk.offer()
    assert stopped == [1]


def test_an_engine_failure_counts_until_it_is_sent():
    desk = Desk(QueuePolicy.DROP_OLDEST)
    first = desk.offer()
    desk.compute(first)
    first.drop(DropReason.ENGINE_ERROR)
    assert desk.inbox.in_flight == 1
    assert desk.send() == [(1, Status.DROPPED)]
    assert desk.inbox.in_flight == 0


def test_the_first_answer_stays():
    ticket = Ticket(1, 0, 0.0)
    assert ticket.resolve(OK)
    assert not ticket.drop(DropReason.SHUTDOWN)
    assert ticket.answer is OK


@given(
    st.sampled_from(list(QueuePolicy)),
    st.integers(1, 4),
    st.lists(st.sampled_from(["offer", "compute", "finish", "send"]), max_size=60),
)
def test_every_accepted_frame_is_answered_once_in_order(policy, limit, actions):
    desk = Desk(policy, limit)
    accepted: list[Ticket] = []
    sent: list[int] = []
    for action in actions:
        waiting = [t for t in accepted if t.answer is None and t.frame_id not in desk.engine]
        computing = [t for t in accepted if t.answer is None and t.frame_id in desk.engine]
        if action == "offer" and (ticket := desk.offer()) is not None:
            accepted.append(ticket)
        elif action == "compute" and waiting:
            desk.compute(waiting[0])
        elif action == "finish" and computing:
            computing[0].resolve(OK)
        elif action == "send":
            sent += [frame_id for frame_id, _ in desk.send()]
        assert 0 <= desk.inbox.in_flight <= desk.inbox.limit
        if policy is QueuePolicy.WAIT:
            assert all(dropped_for(t) is None for t in accepted)
    for ticket in accepted:
        ticket.resolve(OK)
    sent += [frame_id for frame_id, _ in desk.send()]
    assert sent == [ticket.frame_id for ticket in accepted]
    assert desk.inbox.in_flight == 0 and len(desk.inbox) == 0


def test_limit_is_what_is_told_to_the_client():
    assert Desk(QueuePolicy.LATEST_ONLY, 1).inbox.limit == 2
    assert Desk(QueuePolicy.WAIT, 1).inbox.limit == 1
