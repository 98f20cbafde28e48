"""Streams that are lost and opened again: when, and what of the frames."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import grpc
import pytest
from fake_answers import MODEL, Status
from hypothesis import given, settings
from hypothesis import strategies as st

from tilestream_client import (
    Client,
    ConnectionFailed,
    ConnectionLost,
    Frame,
    InvalidConfig,
    ServerBusy,
    ServerDraining,
    SessionClosed,
)
from tilestream_client.exchange import Exchange, Step
from tilestream_client.reconnect import BackOff, Reconnect
from tilestream_client.v1 import segmentation_pb2 as pb

CODE = grpc.StatusCode
LOST = ConnectionLost("cable", code="UNAVAILABLE")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# When


def test_attempts_come_ever_later_and_end():
    clock = Clock()
    back_off = BackOff(Reconnect(10.0, 0.5, 4.0), clock, uniform=lambda low, high: high)
    waits = []
    while (at := back_off.retry_at(LOST, open_before=False)) is not None:
        waits.append(at - clock.now)
        clock.now = at
    assert waits == [0.5, 1.0, 2.0, 4.0]  # the next would be after 11.5 s
    error = back_off.explained(ConnectionFailed("nobody there", code="UNAVAILABLE"))
    assert isinstance(error, ConnectionLost) and error.code == "UNAVAILABLE"
    assert str(error) == "cable; tried to come back 4 times in 10 s, at last: nobody there"


def test_a_server_is_not_asked_before_it_wants_to_be():
    clock = Clock()
    back_off = BackOff(Reconnect(10.0, 0.1), clock)
    busy = ServerBusy("full", retry_after=3.0)
    assert 103.0 <= back_off.retry_at(busy, open_before=False) <= 103.1
    late = ServerBusy("full", retry_after=20.0)
    assert back_off.retry_at(late, open_before=False) is None


def test_a_session_that_brought_nothing_does_not_end_the_outage():
    clock = Clock()
    back_off = BackOff(Reconnect(5.0, 1.0, 2.0), clock, uniform=lambda low, high: high)
    for _ in range(3):
        assert back_off.retry_at(LOST, open_before=True) is not None
        back_off.opened()
        clock.now += 1.5
    assert back_off.retry_at(LOST, open_before=True) is None  # 4.5 s, and the next would be 2 later
    back_off.works()
    assert back_off.retry_at(LOST, open_before=True) == clock.now + 1.0
    back_off.opened()
    clock.now += 1000  # it lived, though the camera sent nothing
    assert back_off.retry_at(LOST, open_before=True) == clock.now + 1.0


@pytest.mark.parametrize("error", [InvalidConfig("x"), SessionClosed("idle"), None])
def test_what_would_fail_again_is_not_tried_again(error):
    assert BackOff(Reconnect(60.0)).retry_at(error, open_before=True) is None


def test_nothing_is_tried_where_that_is_off():
    assert BackOff(Reconnect(0.0)).retry_at(LOST, open_before=True) is None


# What of the frames


@dataclass
class SessionModel:
    """The server's side of a session, as the API describes it."""

    token: bytes
    accepted: deque[int] = field(default_factory=deque)  # without an answer
    last: int | None = None
    answers: list[int] = field(default_factory=list)  # kept until the client has them


@dataclass
class Connection:
    """One call: what is on its way, and the session behind it."""

    up: deque[pb.StreamSegmentRequest] = field(default_factory=deque)
    down: deque[pb.StreamSegmentResponse] = field(default_factory=deque)
    session: SessionModel | None = None
    written: int = 0  # of the session's answers
    half_closed: bool = False


class World:
    """A client's exchange, a server, and a network that loses connections."""

    def __init__(self, window: int, count: int, seed: int) -> None:
        self.order = random.Random(seed)
        self.clock = Clock()
        self.exchange = Exchange(pb.SessionConfig(), self.clock, Reconnect(1e9, 0.1, 1.0))
        self.window, self.count = window, count
        self.offered = 0
        self.taken: list[int] = []
        self.sessions: dict[bytes, SessionModel] = {}
        self.number = 0
        self.connection: Connection | None = None
        self.done = False
        self.connect()

    def connect(self) -> None:
        self.connection = Connection()
        self.connection.up.append(self.exchange.opening_request())

    # The client

    def read(self) -> None:
        if self.exchange.wants_frame:
            if self.offered < self.count:
                self.exchange.offer(Frame(data=b"x", name=f"f{self.offered}"), b"x")
                self.offered += 1
            else:
                self.exchange.source_ended()

    def send(self) -> None:
        if self.connection is None or self.connection.half_closed:
            return
        step = self.exchange.next_request(self.number)
        if step is Step.END:
            self.connection.half_closed = True
        elif not isinstance(step, Step):
            self.connection.up.append(step)

    def take(self) -> None:
        step = self.exchange.take()
        if step is Step.END:
            self.done = True
        elif not isinstance(step, Step):
            assert step.name == f"f{step.frame_id}"
            self.taken.append(step.frame_id)

    def retry(self) -> None:
        wait = self.exchange.seconds_to_retry()
        if self.connection is None and wait is not None:
            self.clock.now += wait
            self.number = self.exchange.begin_again()
            self.connect()

    # The server

    def accept(self) -> None:
        connection = self.connection
        if connection is None or not connection.up:
            return
        request = connection.up.popleft()
        if request.HasField("config"):
            self.enter(connection, request.config)
        elif request.HasField("frame"):
            session = connection.session
            assert session.last is None or request.frame.frame_id > session.last
            session.last = request.frame.frame_id
            session.accepted.append(session.last)
            assert len(session.accepted) <= self.window

    def enter(self, connection: Connection, config: pb.SessionConfig) -> None:
        session = self.sessions.get(config.resume_token)
        resumed = session is not None
        if session is None:
            session = SessionModel(self.order.randbytes(8))
            self.sessions[session.token] = session
        elif config.HasField("last_result_id"):
            session.answers = [one for one in session.answers if one > config.last_result_id]
        connection.session = session
        started = pb.SessionStarted(
            model=MODEL,
            resume_token=session.token,
            resumed=resumed,
            last_frame_id=session.last,
            config=pb.SessionConfig(frames_in_flight=self.window, queue_policy=pb.QUEUE_POLICY_WAIT),
        )
        connection.down.append(pb.StreamSegmentResponse(session_started=started))

    def compute(self) -> None:
        for session in self.sessions.values():
            if session.accepted:
                session.answers.append(session.accepted.popleft())

    def answer(self) -> None:
        connection = self.connection
        if connection is None or connection.session is None:
            return
        if connection.written < len(connection.session.answers):
            frame_id = connection.session.answers[connection.written]
            connection.written += 1
            result = pb.FrameResult(frame_id=frame_id, status=pb.FRAME_STATUS_DROPPED)
            connection.down.append(pb.StreamSegmentResponse(result=result))
        elif connection.half_closed and not connection.up and not connection.session.accepted:
            self.deliver_all()
            self.connection = None
            self.exchange.ended(None, self.number)

    # The network

    def deliver(self) -> None:
        if self.connection is not None and self.connection.down:
            self.exchange.receive(self.connection.down.popleft(), self.number)

    def deliver_all(self) -> None:
        while self.connection is not None and self.connection.down:
            self.deliver()

    def cut(self) -> None:
        if self.connection is not None and self.exchange.session is not None:  # else it is told at once
            self.connection = None
            self.exchange.ended(ConnectionLost("cut"), self.number)

    def expire(self) -> None:
        if self.connection is None:
            self.sessions.clear()

    def drain(self) -> None:
        if self.connection is not None and self.connection.session is not None:
            notice = pb.DrainingNotice(reason=pb.DRAIN_REASON_MAX_AGE)
            self.connection.down.append(pb.StreamSegmentResponse(draining=notice))


WORK = ("read", "send", "accept", "compute", "answer", "deliver", "take", "retry")
TROUBLE = ("cut", "expire", "drain")


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4), st.integers(0, 25), st.integers(0, 2**32), st.floats(0.0, 0.15))
def test_every_frame_has_one_fate_in_order_whatever_is_lost_and_when(window, count, seed, trouble):
    world = World(window, count, seed)
    for step in range(20_000):
        bad = step < 1500 and world.order.random() < trouble
        getattr(world, world.order.choice(TROUBLE if bad else WORK))()
        assert len(world.exchange.unanswered) <= window
        if world.done:
            break
    assert world.done and world.taken == list(range(count))
    assert world.exchange.frames_sent == count


def test_what_a_given_up_call_still_says_is_ignored():
    world = World(2, 5, 0)
    world.accept()
    world.deliver()
    world.read()
    world.send()
    world.exchange.ended(LOST, 0)
    assert world.exchange.next_request(0) is Step.END
    world.exchange.begin_again()
    late = pb.FrameResult(frame_id=0, status=pb.FRAME_STATUS_DROPPED)
    world.exchange.receive(pb.StreamSegmentResponse(result=late), 0)
    world.exchange.ended(None, 0)
    assert not world.exchange.finished and world.exchange.unanswered == (0,)


def test_what_the_source_raised_does_not_wait_for_the_stream_to_come_back():
    exchange = Exchange(pb.SessionConfig(), Clock(), Reconnect(60.0))
    started = pb.SessionStarted(model=MODEL, resume_token=b"t")
    exchange.receive(pb.StreamSegmentResponse(session_started=started))
    exchange.source_ended(OSError("the camera is gone"))
    exchange.ended(LOST, 0)
    assert exchange.finished and exchange.seconds_to_retry() is None
    with pytest.raises(OSError, match="camera is gone"):
        exchange.take()


# Over a socket


@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.INTERNAL, CODE.CANCELLED])
def test_a_stream_that_breaks_off_goes_on(serve, images, code):
    server = serve(hold=2, abort_after=(3, Status(code, "gone")))
    with Client(server.target) as client:
        stream = client.stream(images)
        taken = [result.frame_id for result in stream]
        assert stream.reconnects == len(server.records) - 1 >= 1
    assert taken == list(range(10))
    tokens = [record.config.resume_token for record in server.records]
    assert tokens[0] == b"" and set(tokens[1:]) == {b"secret"}
    assert server.records[1].config.last_result_id == 2


def test_a_server_that_drains_is_left_for_a_new_session(serve, images):
    server = serve(drain_after=3)
    with Client(server.target) as client:
        stream = client.stream(images[:6])
        assert [result.frame_id for result in stream] == list(range(6))
        assert stream.reconnects >= 1


def test_a_refusal_of_the_first_call_is_told_at_once(serve, images):
    server = serve(refuse=Status(CODE.UNAVAILABLE, retry_after=1.0))
    with Client(server.target) as client, pytest.raises(ServerDraining):
        list(client.stream(images))
    assert len(server.records) == 1
