"""The asyncio client against a scripted server on a real socket."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest
from fake_answers import Status, labels_for

from tilestream_client import (
    AsyncClient,
    ConnectionFailed,
    ConnectionLost,
    InvalidConfig,
    ServerDraining,
    SessionClosed,
    SourceError,
)

CODE = grpc.StatusCode
SOON = 20.0


async def endless(images):
    while True:
        for image in images:
            yield image


async def some(items):
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("make", [list, iter, some])
async def test_a_mask_for_every_frame(serve, images, make):
    async with AsyncClient(serve().target) as client:
        results = [result async for result in client.stream(make(images), mask_encoding="rle")]
    assert [result.frame_id for result in results] == list(range(10))
    for result in results:
        np.testing.assert_array_equal(result.labels, labels_for(result.frame_id, 48, 32))


async def test_many_streams_at_once(serve, images):
    server = serve()

    async def one(client, name):
        return [result.frame_id async for result in client.stream(some(images), camera_id=name)]

    async with AsyncClient(server.target) as client:
        rounds = await asyncio.gather(*(one(client, f"c{index}") for index in range(8)))
    assert rounds == [list(range(10))] * 8
    assert {record.config.camera_id for record in server.records} == {f"c{index}" for index in range(8)}


async def test_the_session_before_the_first_result(serve, images):
    async with AsyncClient(serve().target) as client:
        stream = client.stream(images)
        with pytest.raises(SessionClosed, match="open"):
            _ = stream.session
        session = await stream.open()
        assert session is stream.session and session.model.name == "fake"
        assert [result.ok async for result in stream] == [True] * 10 and stream.frames_sent == 10
        with pytest.raises(SessionClosed, match="only once"):
            _ = [result async for result in stream]


async def test_bounded_under_way(serve, images):
    server = serve(hold=3)
    async with AsyncClient(server.target) as client:
        results = [result async for result in client.stream(some(images), frames_in_flight=3)]
    assert len(results) == 10 and server.records[0].max_unanswered == 3


async def test_leaving_the_loop_ends_the_session(serve, images):
    server = serve()
    async with AsyncClient(server.target) as client:
        async with client.stream(endless(images)) as stream:
            async for _ in stream:
                break
        assert await asyncio.to_thread(server.records[0].over.wait, SOON)
        async for _ in client.stream(endless(images)):  # asyncio closes the generator by itself
            break
        assert await asyncio.to_thread(server.records[1].over.wait, SOON)
    assert await no_tasks_left()


async def test_a_cancelled_caller_ends_the_session(serve, images):
    server = serve()

    async def consume(client):
        async for _ in client.stream(endless(images)):
            pass

    async with AsyncClient(server.target) as client:
        task = asyncio.create_task(consume(client))
        while not (server.records and server.records[0].answers):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.records[0].over.wait, SOON)
    assert await no_tasks_left()


async def test_closing_the_client_ends_its_streams(serve, images):
    server = serve()
    client = AsyncClient(server.target)
    results = aiter(client.stream(endless(images)))
    await anext(results)
    await client.close()
    with pytest.raises(SessionClosed, match="closed"):
        _ = [result async for result in results]
    assert await asyncio.to_thread(server.records[0].over.wait, SOON)


async def test_no_thread_is_left(serve, images):
    async with AsyncClient(serve().target) as client:
        for _ in range(3):
            _ = [result async for result in client.stream(images)]
    assert await eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("tilestream")])


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_of_the_iterator_comes_after_the_answers(serve, images, asynchronous):
    def plain():
        yield from images[:3]
        raise KeyError("camera unplugged")

    async def awaited():
        for image in images[:3]:
            yield image
        raise KeyError("camera unplugged")

    server, taken = serve(), []
    async with AsyncClient(server.target) as client:
        with pytest.raises(KeyError, match="unplugged"):
            await collect(client.stream(awaited() if asynchronous else plain()), taken)
    assert taken == [0, 1, 2]
    assert await asyncio.to_thread(server.records[0].over.wait, SOON) and server.records[0].half_closed


async def test_frames_of_the_wrong_kind(serve):
    async with AsyncClient(serve().target) as client:
        for make in (list, some):
            with pytest.raises(SourceError):
                _ = [result async for result in client.stream(make(["text"]))]


async def test_a_server_that_refuses(serve, images):
    status = Status(CODE.INVALID_ARGUMENT, fields={"model": "unknown"})
    async with AsyncClient(serve(refuse=status).target) as client:
        with pytest.raises(InvalidConfig, match="model: unknown"):
            _ = [result async for result in client.stream(images)]
        with pytest.raises(InvalidConfig):
            await client.info()


async def test_a_server_that_does_not_answer(serve, images):
    async with AsyncClient(serve(mute=True).target, timeout=0.3) as client:
        with pytest.raises(ConnectionFailed, match=r"within 0\.3 s"):
            _ = [result async for result in client.stream(images)]


async def test_a_server_that_is_not_there():
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(ConnectionFailed):
            await client.models()
        with pytest.raises(ConnectionFailed):
            _ = [result async for result in client.stream([b"x"])]


@pytest.mark.parametrize("code", [CODE.INTERNAL, CODE.CANCELLED, CODE.UNAVAILABLE])
async def test_a_stream_that_breaks_off_names_what_is_lost(serve, images, code):
    server, taken = serve(hold=2, abort_after=(3, Status(code))), []
    async with AsyncClient(server.target) as client:
        stream = client.stream(images, reconnect_timeout=0)
        with pytest.raises(ConnectionLost) as caught:
            await collect(stream, taken)
    assert taken == [0, 1, 2]
    assert caught.value.unanswered == tuple(range(3, stream.frames_sent))


async def test_a_server_that_is_killed(serve, images):
    server = serve(hold=2)
    async with AsyncClient(server.target) as client:
        results = aiter(client.stream(endless(images), reconnect_timeout=1.0))
        await anext(results)
        await asyncio.to_thread(server.kill)
        with pytest.raises(ConnectionLost, match=r"tried to come back .* times in 1 s"):
            _ = [result async for result in results]


async def test_a_draining_server_answers_what_it_took(serve, images):
    taken = []
    async with AsyncClient(serve(drain_after=3).target) as client:
        stream = client.stream(images, reconnect_timeout=0)
        with pytest.raises(ServerDraining):
            await collect(stream, taken)
    assert taken == list(range(stream.frames_sent))


async def test_heartbeats_while_the_camera_is_silent(serve, images):
    server = serve(limits={"idle_timeout_ms": 60})

    async def frames():
        yield images[0]
        assert await eventually(lambda: server.records[0].heartbeats >= 2)
        yield images[1]

    async with AsyncClient(server.target) as client:
        assert len([result async for result in client.stream(frames())]) == 2


async def test_the_loop_is_not_held_up_by_a_plain_iterator(serve, images):
    """While the iterator sleeps, other tasks run."""
    ran = threading.Event()

    def frames():
        assert ran.wait(SOON)
        yield images[0]

    async def other():
        await asyncio.sleep(0.05)
        ran.set()

    async with AsyncClient(serve().target) as client:
        task = asyncio.create_task(other())
        assert len([result async for result in client.stream(frames())]) == 1
        await task


async def test_questions(serve):
    async with AsyncClient(serve(sessions=7).target) as client:
        assert [model.name for model in await client.models()] == ["fake"]
        assert (await client.info()).version == "9.9.9"
        assert [session.session_id async for session in client.sessions()] == [
            f"s{index}" for index in range(7)
        ]
    with pytest.raises(SessionClosed, match="client is closed"):
        await client.info()


async def collect(stream, taken) -> None:
    """Up to the end or an error."""
    async for result in stream:
        taken.append(result.frame_id)


async def eventually(condition) -> bool:
    end = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


async def no_tasks_left() -> bool:
    def ours():
        return [task for task in asyncio.all_tasks() if "AsyncDriver" in repr(task)]

    return await eventually(lambda: not ours())
