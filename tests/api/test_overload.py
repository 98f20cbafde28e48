"""What clients see of a server that cannot keep up: smaller budgets, then dropped frames, then refusals."""

import asyncio
import itertools

import grpc
import pytest

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import Stream, running
from tilestream.v1 import segmentation_pb2 as pb

OK, DROPPED = pb.FRAME_STATUS_OK, pb.FRAME_STATUS_DROPPED


def slow(seconds: float) -> FakeEngine:
    engine = FakeEngine()
    engine.seconds = seconds
    return engine


class Client:
    """Sends as fast as it may, until it is told to stop."""

    def __init__(self, stream: Stream, pause: float = 0.0) -> None:
        self.stream, self.results, self.sent, self.pause = stream, [], 0, pause
        self.tasks = [asyncio.ensure_future(self.send()), asyncio.ensure_future(self.read())]

    async def send(self) -> None:
        for number in itertools.count():
            await self.stream.frame(number, jpeg(number % 10))
            self.sent = number + 1
            await asyncio.sleep(self.pause)

    async def read(self) -> None:
        while True:
            self.results.append(await self.stream.result())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def until(condition, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def lowest_budget(clients) -> float:
    found = [r.reuse.block_budget for c in clients for r in c.results if r.status == OK]
    return min(found, default=1.0)


@pytest.mark.parametrize("policy", ["QUEUE_POLICY_WAIT", "QUEUE_POLICY_DROP_OLDEST"])
async def test_budgets_fall_first_and_answers_stay_in_order(policy):
    async with running(slow(0.05), service_level=0.08, min_block_budget=0.2, block_budget=1.0) as r:
        streams = [await r.open(queue_policy=policy, frames_in_flight=2) for _ in range(4)]
        clients = [Client(stream, 0.02) for stream in streams]
        await until(lambda: lowest_budget(clients) < 0.75)
        assert not any(x.drop_reason == pb.DROP_REASON_OVERLOAD for c in clients for x in c.results[:5])
        for client in clients:
            await client.stop()
            assert [x.frame_id for x in client.results] == list(range(len(client.results)))
            if policy == "QUEUE_POLICY_WAIT":
                assert all(x.status == OK for x in client.results)


async def test_late_frames_are_shed_for_later_ones_and_new_sessions_refused_for_a_while():
    async with running(
        slow(0.08), service_level=0.05, min_block_budget=1.0, block_budget=1.0, retry_delay=3.0
    ) as r:
        streams = [
            await r.open(queue_policy="QUEUE_POLICY_DROP_OLDEST", frames_in_flight=4) for _ in range(3)
        ]
        clients = [Client(stream, 0.05) for stream in streams]

        def shed():
            return [x for c in clients for x in c.results if x.drop_reason == pb.DROP_REASON_OVERLOAD]

        await until(shed)
        assert "cannot keep up" in shed()[0].detail
        refused = await refusal(r)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "cannot keep up" in refused.details()
        assert r.server.metrics.registry.get_sample_value("tilestream_overload_level") >= 2
        for client in clients:
            await client.stop()
            assert [x.frame_id for x in client.results] == list(range(len(client.results)))
            assert any(x.status == OK for x in client.results)
            client.stream.call.cancel()
        async with asyncio.timeout(60):
            while await refusal(r) is not None:
                await asyncio.sleep(0.1)


async def refusal(r) -> grpc.aio.AioRpcError | None:
    """Try to open sessions until one is refused. None as soon as one is let in without any load."""
    for _ in range(600):
        try:
            stream = await r.open()
        except grpc.aio.AioRpcError as error:
            return error
        stream.call.cancel()
        if not len([s for s in r.server.registry if s.stats.received]):
            return None
        await asyncio.sleep(0.05)
    raise AssertionError("never refused")


async def test_a_pinned_server_never_lowers_a_budget():
    async with running(slow(0.03), service_level=0.01, min_block_budget=1.0, block_budget=1.0) as r:
        clients = [Client(await r.open()) for _ in range(3)]
        await until(lambda: all(len(c.results) > 20 for c in clients))
        assert {x.reuse.block_budget for c in clients for x in c.results} == {1.0}
        for client in clients:
            await client.stop()
