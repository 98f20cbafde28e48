"""AsyncClient and event loops: made anywhere, used in one."""

from __future__ import annotations

import asyncio

import pytest

from tilestream_client import AsyncClient, SessionClosed, TilestreamError


async def frames_of(client, images) -> list[int]:
    return [result.frame_id async for result in client.stream(images)]


def test_made_outside_of_a_loop_and_used_in_one(serve, images):
    client = AsyncClient(serve().target)
    stream = client.stream(images)

    async def use() -> list[int]:
        assert (await client.info()).version == "9.9.9"
        found = [result.frame_id async for result in stream]
        await client.close()
        return found

    assert asyncio.run(use()) == list(range(10))


def test_a_second_loop_is_told_so(serve, images):
    client = AsyncClient(serve().target)
    assert asyncio.run(frames_of(client, images)) == list(range(10))
    for use in (lambda: frames_of(client, images), client.info, client.models, client.close):
        with pytest.raises(TilestreamError, match="event loop in which it was first used"):
            asyncio.run(use())


def test_a_stream_in_a_second_loop_is_told_so(serve, images):
    client = AsyncClient(serve().target)
    stream = client.stream(images)
    asyncio.run(stream.open())
    for use in (stream.open, stream.close):
        with pytest.raises(TilestreamError, match="event loop in which it was opened"):
            asyncio.run(use())


def test_a_client_that_was_never_used_closes_anywhere():
    client = AsyncClient("localhost:1")
    asyncio.run(client.close())
    asyncio.run(client.close())
    with pytest.raises(SessionClosed, match="closed"):
        asyncio.run(client.info())
