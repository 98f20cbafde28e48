"""The real client against the real server over a network that breaks."""

import asyncio
import random
import threading

import cv2
import numpy as np
import pytest

from support.clock import ManualClock
from support.fake_engine import STEP, FakeEngine
from support.proxy import Proxy, proxied
from support.server import running
from support.waiting import until
from tilestream_client import AsyncClient, Client, FrameStatus


def frames(count: int):
    for index in range(count):
        image = np.full((48, 64, 3), STEP * (index % 12), np.uint8)
        yield cv2.imencode(".jpg", image)[1].tobytes()


def check(results, count: int) -> None:
    """Every frame its own mask, in order, once."""
    assert [result.frame_id for result in results] == list(range(count))
    for result in results:
        assert result.status is FrameStatus.OK
        assert (result.labels == result.frame_id % 12).all()


async def trouble(proxy: Proxy, seed: int, cuts: int, answers: list[list]) -> None:
    """Cuts, and times at which nobody answers: every few answers, once every stream has had one.

    A server that cannot be reached at first is an error: the address may be wrong.
    """
    order = random.Random(seed)

    def count() -> int:
        return sum(map(len, answers))

    await until(lambda: all(answers))
    for _ in range(cuts):
        enough = count() + order.randint(0, 30)
        await until(lambda enough=enough: count() >= enough)
        proxy.refuse(order.random() < 0.3)
        proxy.cut()
        if order.random() < 0.3:
            await asyncio.sleep(0.1)
        proxy.refuse(False)


@pytest.mark.parametrize("ttl", [30.0, 0.0])
async def test_cuts_cost_an_async_stream_nothing(ttl):
    engine = FakeEngine()
    engine.seconds = 0.004
    async with running(engine, resume_ttl=ttl) as r, proxied(r.server.port) as proxy:
        async with AsyncClient(f"127.0.0.1:{proxy.port}") as client:
            stream = client.stream(frames(300), frames_in_flight=3)
            results: list = []
            cutting = asyncio.create_task(trouble(proxy, 1, 8, [results]))
            async for result in stream:
                results.append(result)  # noqa: PERF401 - the trouble begins with the first one
            cutting.cancel()
            assert stream.reconnects >= 1
        check(results, 300)
        resumed = r.server.metrics.registry.get_sample_value("tilestream_sessions_resumed_total")
        assert (resumed > 0) == (ttl > 0)
        if ttl:
            assert sum(len(plan) for plan in engine.plans) == 300  # nothing was computed twice
        await until(lambda: not (len(r.server.registry) or engine.open_sessions))


async def test_cuts_cost_plain_streams_nothing():
    engine = FakeEngine()
    engine.seconds = 0.002
    async with running(engine) as r, proxied(r.server.port) as proxy:
        answers: list[list] = [[] for _ in range(3)]
        with Client(f"127.0.0.1:{proxy.port}") as client:

            def play(mine: list) -> None:
                mine.extend(client.stream(frames(150)))

            threads = [threading.Thread(target=play, args=(mine,)) for mine in answers]
            for thread in threads:
                thread.start()
            cutting = asyncio.create_task(trouble(proxy, 2, 8, answers))
            await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
            cutting.cancel()
        for mine in answers:
            check(mine, 150)


async def test_an_old_session_is_followed_by_a_new_one():
    """The age limit ends sessions; the caller does not notice."""
    engine, clock = FakeEngine(), ManualClock()
    engine.seconds, engine.sleep = 0.01, clock.advance  # sixty frames are an age
    settings = {"max_session_age": 0.6, "max_age_notice": 0.2}
    async with running(engine, clock, **settings) as r, AsyncClient(f"127.0.0.1:{r.server.port}") as client:
        stream = client.stream(frames(150))
        check([result async for result in stream], 150)
        assert stream.reconnects >= 1
