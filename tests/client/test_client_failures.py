"""How the blocking client fails against a scripted server on a real socket."""

from __future__ import annotations

import socket

import grpc
import numpy as np
import pytest
from fake_answers import Status
from waiting import SOON, eventually, own_threads

from tilestream_client import (
    Client,
    ConnectionFailed,
    ConnectionLost,
    Frame,
    InvalidConfig,
    MessageTooLarge,
    ProtocolError,
    ServerBusy,
    ServerDraining,
    SessionClosed,
    SourceError,
)

CODE = grpc.StatusCode


def test_an_error_of_the_iterator_comes_after_the_answers(serve, images):
    def frames():
        yield from images[:3]
        raise KeyError("camera unplugged")

    server = serve()
    taken = []
    with Client(server.target) as client, pytest.raises(KeyError, match="unplugged"):
        taken.extend(result.frame_id for result in client.stream(frames()))
    assert taken == [0, 1, 2]
    assert server.records[0].over.wait(SOON) and server.records[0].half_closed
    assert eventually(lambda: not own_threads())


@pytest.mark.parametrize("wrong", ["text", 5, np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), Frame()])
def test_frames_of_the_wrong_kind(serve, images, wrong):
    with Client(serve().target) as client:
        taken = []
        with pytest.raises(SourceError):
            taken.extend(client.stream([images[0], wrong]))
        assert len(taken) == 1


def test_a_server_that_is_not_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Client(f"127.0.0.1:{unused.getsockname()[1]}") as client:
            with pytest.raises(ConnectionFailed, match="is the server running"):
                client.models()
            with pytest.raises(ConnectionFailed):
                list(client.stream([b"x"]))


def test_a_server_that_does_not_answer(serve):
    with Client(serve(mute=True).target, timeout=0.3) as client:
        read = []
        with pytest.raises(ConnectionFailed, match=r"within 0\.3 s"):
            list(client.stream(read.append(1) or b"x" for _ in range(3)))
        assert read == []  # nothing of the source is lost


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status(CODE.INVALID_ARGUMENT, fields={"model": "unknown"}), InvalidConfig),
        (Status(CODE.RESOURCE_EXHAUSTED, retry_after=2.5), ServerBusy),
        (Status(CODE.UNAVAILABLE, retry_after=2.5), ServerDraining),
    ],
)
def test_a_server_that_refuses(serve, images, status, expected):
    with Client(serve(refuse=status).target) as client:
        with pytest.raises(expected) as caught:
            list(client.stream(images))
        assert caught.value.retry_after == status.retry_after
        with pytest.raises(expected), client.stream(images):
            pass
        with pytest.raises(expected):
            client.info()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status(CODE.INTERNAL, "engine died"), ConnectionLost),
        (Status(CODE.CANCELLED, "proxy gave up"), ConnectionLost),
        (Status(CODE.UNAVAILABLE, retry_after=1.0), ServerDraining),
        (Status(CODE.DEADLINE_EXCEEDED, "idle"), SessionClosed),
        (Status(CODE.FAILED_PRECONDITION, "frame_id"), ProtocolError),
        (Status(CODE.RESOURCE_EXHAUSTED, "message larger than the limit"), MessageTooLarge),
    ],
)
def test_a_stream_that_breaks_off_names_what_is_lost(serve, images, status, expected):
    server = serve(hold=2, abort_after=(3, status))
    taken = []
    with Client(server.target) as client, pytest.raises(expected) as caught:
        stream = client.stream(images, reconnect_timeout=0)
        taken.extend(result.frame_id for result in stream)
    assert taken == [0, 1, 2]
    sent = stream.frames_sent
    assert caught.value.unanswered == tuple(range(3, sent)) and 4 <= sent <= 5


def test_a_server_that_is_killed(serve, images):
    server = serve(hold=2)
    with Client(server.target) as client:
        results = iter(client.stream(images, reconnect_timeout=1.0))
        next(results)
        server.kill()
        with pytest.raises(ConnectionLost, match=r"tried to come back .* times in 1 s"):
            list(results)


def test_a_server_that_ends_too_early(serve, images):
    with Client(serve(hold=2, end_after=3).target) as client, pytest.raises(SessionClosed) as caught:
        list(client.stream(images))
    assert 3 in caught.value.unanswered


def test_answers_out_of_order(serve, images):
    server = serve(wrong_id_after=2)
    with Client(server.target) as client, pytest.raises(ProtocolError, match="answered frame 3"):
        list(client.stream(images))
    assert server.records[0].over.wait(SOON)


def test_a_draining_server_answers_what_it_took(serve, images):
    server = serve(drain_after=3)
    taken = []
    with Client(server.target) as client, pytest.raises(ServerDraining) as caught:
        stream = client.stream(images, reconnect_timeout=0)
        taken.extend(result.frame_id for result in stream)
    assert stream.draining.reason == "shutdown" and caught.value.retry_after == 1.5
    assert taken == list(range(stream.frames_sent)) and caught.value.unanswered == ()
    assert server.records[0].half_closed


def test_a_frame_above_the_message_limit(serve, images):
    big = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    with Client(serve(limits={"max_message_bytes": 5000}).target) as client:
        taken = []
        with pytest.raises(MessageTooLarge, match="send smaller frames"):
            taken.extend(client.stream([images[0], big]))
        assert len(taken) == 1
