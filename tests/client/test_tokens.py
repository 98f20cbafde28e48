"""A token that the server does not take is an error at once: nothing is tried again."""

from __future__ import annotations

import threading

import grpc
import pytest
from fake_answers import Status

from tilestream_client import AccessDenied, AsyncClient, Client

UNKNOWN = Status(grpc.StatusCode.UNAUTHENTICATED, "this token is not known")


def refused(raised: pytest.ExceptionInfo[AccessDenied], target: str) -> None:
    assert str(raised.value) == f"{target} refuses the credentials: this token is not known"
    assert raised.value.code == "UNAUTHENTICATED"


def test_a_wrong_token(serve):
    server = serve(refuse=UNKNOWN)
    with Client(server.target, token="wrong") as client:
        with pytest.raises(AccessDenied) as asked:
            client.info()
        refused(asked, server.target)
        with pytest.raises(AccessDenied) as streamed:
            list(client.stream([b"x"]))
        refused(streamed, server.target)
    (record,) = server.records
    assert record.metadata["authorization"] == "Bearer wrong"


async def test_a_wrong_token_of_an_asyncio_client(serve):
    server = serve(refuse=UNKNOWN)
    async with AsyncClient(server.target, token="wrong") as client:
        with pytest.raises(AccessDenied) as asked:
            await client.info()
        refused(asked, server.target)
        with pytest.raises(AccessDenied) as streamed:
            async for _ in client.stream([b"x"]):
                pass
        refused(streamed, server.target)
    assert len(server.records) == 1


def test_a_token_that_is_taken_no_longer_when_the_stream_was_lost(serve, images):
    gate = threading.Event()
    server = serve(gate=gate, abort_after=(1, Status(grpc.StatusCode.UNAVAILABLE, "gone")))
    with Client(server.target, token="old") as client:
        stream = client.stream(images)
        stream.open()
        server.script.refuse = UNKNOWN
        gate.set()
        answered = []
        with pytest.raises(AccessDenied) as raised:
            answered.extend(result.frame_id for result in stream)
    refused(raised, server.target)
    assert answered == [0]
    assert len(server.records) == 2


async def test_the_same_of_an_asyncio_client(serve, images):
    gate = threading.Event()
    server = serve(gate=gate, abort_after=(1, Status(grpc.StatusCode.UNAVAILABLE, "gone")))
    async with AsyncClient(server.target, token="old") as client:
        stream = client.stream(images)
        await stream.open()
        server.script.refuse = UNKNOWN
        gate.set()
        answered: list[int] = []
        with pytest.raises(AccessDenied) as raised:
            async for result in stream:
                answered += [result.frame_id]
    refused(raised, server.target)
    assert answered == [0] and len(server.records) == 2
