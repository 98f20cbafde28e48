"""The bookkeeping of a stream under any order of events: no I/O, a clock of our own."""

from __future__ import annotations

import random

import pytest
from fake_answers import MODEL
from hypothesis import given, settings
from hypothesis import strategies as st

from tilestream_client import Frame, MessageTooLarge, ProtocolError, ServerDraining, SessionClosed
from tilestream_client.config import send_window
from tilestream_client.exchange import Exchange, Step
from tilestream_client.v1 import segmentation_pb2 as pb


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(in_flight: int = 2, clock: Clock | None = None, **limits: int) -> Exchange:
    exchange = Exchange(pb.SessionConfig(), clock or Clock())
    config = pb.SessionConfig(frames_in_flight=in_flight, queue_policy=pb.QUEUE_POLICY_WAIT)
    started = pb.SessionStarted(model=MODEL, config=config, limits=pb.SessionLimits(**limits))
    exchange.receive(pb.StreamSegmentResponse(session_started=started))
    return exchange


def answer(frame_id: int, status: int = pb.FRAME_STATUS_DROPPED) -> pb.StreamSegmentResponse:
    return pb.StreamSegmentResponse(result=pb.FrameResult(frame_id=frame_id, status=status))


def send(exchange: Exchange) -> int:
    exchange.offer(Frame(data=b"x"), b"x")
    request = exchange.next_request()
    assert not isinstance(request, Step)
    return request.frame.frame_id


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 30), st.integers(0, 2**32))
def test_every_frame_once_in_order_and_bounded(window, count, seed):
    """However reading, sending, answering and taking interleave."""
    order, exchange = random.Random(seed), opened(window)
    wire: list[int] = []
    taken: list[int] = []
    offered = 0
    over = False
    while True:
        event = order.choice(("read", "send", "answer", "take"))
        if event == "read" and exchange.wants_frame:
            if offered < count:
                exchange.offer(Frame(data=b"x", name=f"f{offered}"), b"x")
                offered += 1
            else:
                exchange.source_ended()
        elif event == "send" and not over:
            request = exchange.next_request()
            if request is Step.END:
                over = True
            elif request is not Step.WAIT:
                wire.append(request.frame.frame_id)
        elif event == "answer" and wire:
            exchange.receive(answer(wire.pop(0)))
        elif event == "answer" and over:
            exchange.finish()
        elif event == "take":
            step = exchange.take()
            if step is Step.END:
                break
            if step is not Step.WAIT:
                taken.append(step.frame_id)
                assert step.name == f"f{step.frame_id}"
        assert exchange.frames_sent - len(taken) <= window
        assert offered - len(taken) <= window + 1
    assert taken == list(range(count)) and exchange.frames_sent == count


def test_nothing_is_read_before_the_session_is_open():
    exchange = Exchange(pb.SessionConfig())
    assert not exchange.wants_frame and exchange.next_request() is Step.WAIT
    assert exchange.opening_request().HasField("config")


def test_the_server_says_how_many_may_be_under_way():
    assert opened(7).window == 7
    dropping = pb.SessionConfig(frames_in_flight=2, queue_policy=pb.QUEUE_POLICY_LATEST_ONLY)
    assert send_window(dropping) > 2  # or nothing could ever be superseded
    assert send_window(pb.SessionConfig()) == 2


@pytest.mark.parametrize("frame_id", [1, 7])
def test_answers_out_of_order_are_an_error(frame_id):
    exchange = opened()
    send(exchange)
    send(exchange)
    with pytest.raises(ProtocolError, match="next in order is 0"):
        exchange.receive(answer(frame_id))


def test_answers_to_nothing_are_an_error():
    with pytest.raises(ProtocolError):
        opened().receive(answer(0))
    with pytest.raises(ProtocolError, match="before it opened"):
        Exchange(pb.SessionConfig()).receive(answer(0))


@pytest.mark.parametrize("status", [pb.FRAME_STATUS_UNSPECIFIED, 9, pb.FRAME_STATUS_OK])
def test_a_fate_that_cannot_be_understood_is_an_error(status):
    exchange = opened()
    send(exchange)
    with pytest.raises(ProtocolError, match="frame 0"):  # the last: OK without a mask
        exchange.receive(answer(0, status))


def test_what_is_newer_than_this_client_is_skipped():
    exchange = opened()
    exchange.receive(pb.StreamSegmentResponse())
    exchange.receive(pb.StreamSegmentResponse(heartbeat=pb.Heartbeat()))
    send(exchange)
    exchange.receive(pb.StreamSegmentResponse(result=pb.FrameResult(status=2, drop_reason=99)))
    assert exchange.take().reason == "99"


def test_latency_is_from_sending_to_answer():
    clock = Clock()
    exchange = opened(clock=clock)
    exchange.offer(Frame(data=b"x"), b"x")
    clock.now += 5  # waiting to be sent does not count
    exchange.next_request()
    clock.now += 0.25
    exchange.receive(answer(0))
    assert exchange.take().latency == pytest.approx(0.25)


def test_heartbeats_keep_an_idle_session():
    clock = Clock()
    exchange = opened(clock=clock, idle_timeout_ms=3000)
    assert exchange.seconds_to_heartbeat() == pytest.approx(1.0)
    assert exchange.next_request() is Step.WAIT
    clock.now += 1.01
    assert exchange.next_request().HasField("heartbeat")
    assert exchange.next_request() is Step.WAIT
    clock.now += 0.9
    send(exchange)
    assert exchange.seconds_to_heartbeat() == pytest.approx(1.0)
    assert opened().seconds_to_heartbeat() is None


def test_a_frame_above_the_message_limit_ends_the_source():
    exchange = opened(max_message_bytes=1000)
    send(exchange)
    exchange.offer(Frame(data=b"x"), b"x" * 1000)
    assert exchange.next_request() is Step.END
    exchange.receive(answer(0))
    exchange.finish()
    assert exchange.take().frame_id == 0
    with pytest.raises(MessageTooLarge, match="frame 1 has 1000 bytes"):
        exchange.take()


def test_the_source_s_error_comes_after_the_answers_and_once():
    exchange = opened()
    send(exchange)
    exchange.source_ended(KeyError("mine"))
    assert exchange.next_request() is Step.END
    exchange.receive(answer(0))
    exchange.finish()
    assert exchange.take().frame_id == 0
    with pytest.raises(KeyError, match="mine"):
        exchange.take()


def test_a_broken_stream_names_the_frames_without_answer():
    exchange = opened()
    send(exchange)
    send(exchange)
    exchange.offer(Frame(data=b"x"), b"x")
    exchange.receive(answer(0))
    exchange.finish(SessionClosed("gone"))
    exchange.finish(SessionClosed("later"))
    assert exchange.take().frame_id == 0
    with pytest.raises(SessionClosed, match="gone") as caught:
        exchange.take()
    assert caught.value.unanswered == (1,) and caught.value.unsent == (2,)


def test_a_server_that_ends_too_early():
    exchange = opened()
    send(exchange)
    exchange.finish()
    with pytest.raises(SessionClosed, match="1 frames unanswered"):
        exchange.take()
    exchange = opened()
    exchange.finish()
    with pytest.raises(SessionClosed, match="before the source"):
        exchange.take()


def test_draining_stops_the_source_and_finishes_what_is_under_way():
    exchange = opened()
    send(exchange)
    exchange.offer(Frame(data=b"x"), b"x")
    notice = pb.DrainingNotice(reason=pb.DRAIN_REASON_MAX_AGE, grace_ms=1000, retry_delay_ms=250)
    exchange.receive(pb.StreamSegmentResponse(draining=notice))
    assert exchange.draining.reason == "max_age"
    assert exchange.next_request() is Step.END and not exchange.wants_frame
    exchange.receive(answer(0))
    exchange.finish()
    assert exchange.take().frame_id == 0
    with pytest.raises(ServerDraining) as caught:
        exchange.take()
    assert caught.value.retry_after == 0.25 and caught.value.unsent == (1,)


def test_draining_after_the_last_frame_is_no_error():
    exchange = opened()
    send(exchange)
    exchange.source_ended()
    exchange.receive(pb.StreamSegmentResponse(draining=pb.DrainingNotice()))
    exchange.receive(answer(0))
    exchange.finish()
    assert exchange.take().frame_id == 0 and exchange.take() is Step.END
