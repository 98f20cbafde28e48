"""What clients see of a server that cannot keep up: smaller budgets, then dropped frames, then refusals."""

import asyncio
import contextlib

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from support.clock import ManualClock
from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import Running, Stream, running
from support.waiting import LONG, until
from tilestream.sessions.frames import Stage
from tilestream.v1 import segmentation_pb2 as pb

OK, DROPPED = pb.FRAME_STATUS_OK, pb.FRAME_STATUS_DROPPED


class Camera:
    """A client that reads what comes and sends when it is told to, and its session in the server."""

    def __init__(self, r: Running, stream: Stream) -> None:
        self.stream, self.results, self.sent = stream, [], 0
        sessions = r.server._live_sessions._by_token.values()
        (self._live,) = [one for one in sessions if one.token == stream.started.resume_token]
        self._reading = asyncio.ensure_future(self._read())
        self._sending = asyncio.Lock()  # the first frames are sent while steps of others send the next ones

    async def _read(self) -> None:
        while True:
            self.results.append(await self.stream.result())

    async def send(self) -> None:
        """The next frame, unless the one before waits for room in the server."""
        async with self._sending:
            if self._live.session.stats.received == self.sent:
                await self.stream.frame(self.sent, jpeg(self.sent % 10))
                self.sent += 1

    def waiting(self) -> list[Stage]:
        """Where its unanswered frames are."""
        return [ticket.stage for ticket in self._live.pipeline.inbox.unanswered()]

    async def stop(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


class Load:
    """Cameras of which each sends a frame in every step of the engine, while the clock moves on by the step.

    So the engine's time is all the time there is, and the load is the same on any machine.
    """

    def __init__(self, r: Running, clock: ManualClock, streams: list[Stream]) -> None:
        self._r, self._clock, self._loop = r, clock, asyncio.get_running_loop()
        self._running = True
        self.cameras = [Camera(r, stream) for stream in streams]
        r.engine.sleep = self._step

    @property
    def results(self) -> list[pb.FrameResult]:
        return [result for camera in self.cameras for result in camera.results]

    async def start(self) -> None:
        """The first frames; those after come with the steps."""
        for camera in self.cameras:
            await camera.send()

    async def stop(self) -> None:
        """No more frames; what is under way is answered."""
        self._running = False
        await until(lambda: len(self.results) == sum(camera.sent for camera in self.cameras))
        for camera in self.cameras:
            await camera.stop()

    def _step(self, seconds: float) -> None:
        """In the engine's thread."""
        if self._running:
            asyncio.run_coroutine_threadsafe(self._during_step(), self._loop).result(LONG)
        self._clock.advance(seconds)

    async def _during_step(self) -> None:
        computed = sum(len(plan) for plan in self._r.engine.plans[:-1])
        await until(lambda: sum(result.status == OK for result in self.results) == computed)
        await self.start()
        await until(self._all_wait_for_the_engine)

    def _all_wait_for_the_engine(self) -> bool:
        sent = sum(1 + camera.sent for camera in self.cameras)  # with the config
        decoded = all(stage is Stage.SUBMITTED for camera in self.cameras for stage in camera.waiting())
        return self._r.requests_read() >= sent and decoded


@contextlib.asynccontextmanager
async def loaded(seconds: float, cameras: int, config: dict, **settings):
    """A server whose frames take ``seconds``, and the load of so many cameras, which has begun."""
    engine, clock = FakeEngine(), ManualClock()
    engine.seconds = seconds
    async with running(engine, clock, block_budget=1.0, **settings) as r:
        load = Load(r, clock, [await r.open(**config) for _ in range(cameras)])
        await load.start()
        yield r, clock, load


def lowest_budget(load: Load) -> float:
    return min((r.reuse.block_budget for r in load.results if r.status == OK), default=1.0)


@pytest.mark.parametrize("policy", ["QUEUE_POLICY_WAIT", "QUEUE_POLICY_DROP_OLDEST"])
async def test_budgets_fall_first_and_answers_stay_in_order(policy):
    config = {"queue_policy": policy, "frames_in_flight": 2}
    async with loaded(0.05, 4, config, service_level=0.08, min_block_budget=0.2) as (_, _, load):
        await until(lambda: lowest_budget(load) < 0.75)
        assert not any(x.drop_reason == pb.DROP_REASON_OVERLOAD for c in load.cameras for x in c.results[:5])
        await load.stop()
        for camera in load.cameras:
            assert [x.frame_id for x in camera.results] == list(range(camera.sent))
            if policy == "QUEUE_POLICY_WAIT":
                assert all(x.status == OK for x in camera.results)


async def test_late_frames_are_shed_for_later_ones_and_new_sessions_refused_for_a_while():
    config = {"queue_policy": "QUEUE_POLICY_DROP_OLDEST", "frames_in_flight": 4}
    settings = {"service_level": 0.05, "min_block_budget": 1.0, "retry_delay": 3.0}
    async with loaded(0.08, 3, config, **settings) as (r, clock, load):

        def shed():
            return [x for x in load.results if x.drop_reason == pb.DROP_REASON_OVERLOAD]

        await until(shed)
        assert "cannot keep up" in shed()[0].detail
        refused = await refusal(r)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "cannot keep up" in refused.details()
        assert refused_reason(refused) == "OVERLOADED"
        assert r.metric("tilestream_overload_level") >= 2
        await load.stop()
        for camera in load.cameras:
            assert [x.frame_id for x in camera.results] == list(range(camera.sent))
            assert any(x.status == OK for x in camera.results)
            camera.stream.call.cancel()
        while await refusal(r) is not None:
            clock.advance(0.1)


def refused_reason(error: grpc.aio.AioRpcError) -> str:
    """The word for programs in a status."""
    trailing = dict(error.trailing_metadata())
    status, info = (
        status_pb2.Status.FromString(trailing["grpc-status-details-bin"]),
        error_details_pb2.ErrorInfo(),
    )
    assert any(detail.Unpack(info) for detail in status.details)
    return info.reason


async def test_the_load_of_a_server_that_has_become_idle_goes_down_without_a_step():
    settings = {"service_level": 0.05, "min_block_budget": 1.0}
    async with loaded(0.08, 3, {"frames_in_flight": 4}, **settings) as (r, clock, load):
        await until(lambda: r.metric("tilestream_overload_level") >= 2)
        await load.stop()
        steps = len(r.engine.plans)
        clock.advance(60.0)
        assert r.metric("tilestream_overload_level") == r.metric("tilestream_demand_ratio") == 0
        assert len(r.engine.plans) == steps


async def test_budgets_are_whole_again_where_no_camera_is_left():
    async with loaded(0.08, 4, {}, service_level=0.08, min_block_budget=0.2) as (r, clock, load):
        await until(lambda: r.metric("tilestream_budget_scale_ratio") < 0.6)
        await load.stop()
        for camera in load.cameras:
            camera.stream.call.cancel()
        clock.advance(60.0)
        assert r.metric("tilestream_budget_scale_ratio") == 1.0
        assert r.metric("tilestream_overload_level") == r.metric("tilestream_demand_ratio") == 0


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
    async with loaded(0.03, 3, {}, service_level=0.01, min_block_budget=1.0) as (_, _, load):
        await until(lambda: all(len(c.results) > 20 for c in load.cameras))
        assert {x.reuse.block_budget for x in load.results} == {1.0}
        await load.stop()
