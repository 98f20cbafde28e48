"""What callers can make the server hold before anybody trusts them, through real sockets."""

import asyncio
import contextlib
from collections import Counter

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.clock import ManualClock
from support.frames import jpeg
from support.identities import open_as
from support.server import Stream, running, status_details
from support.waiting import until
from tilestream.v1 import segmentation_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING


def channel_to(r) -> grpc.aio.Channel:
    """Another connection."""
    own = (("grpc.use_local_subchannel_pool", 1),)
    return grpc.aio.insecure_channel(f"127.0.0.1:{r.server.port}", options=own)


async def test_1500_silent_streams_keep_neither_health_nor_anybody_out():
    clock = ManualClock()
    async with running(clock=clock, retry_delay=1.5) as r, channel_to(r) as other:
        silent = [r.stub.StreamSegment() for _ in range(1500)]
        over = r.server.settings.max_unconfigured_streams
        await until(lambda: r.metric("tilestream_calls_refused_total", reason="streams") == 1500 - over)
        for channel in (r.channel, other):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == SERVING
        stream = await open_as(r, "", other)
        await stream.frame(1, jpeg())
        assert (await stream.result()).status == pb.FRAME_STATUS_OK
        refused = next(call for call in silent if call.done())
        assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info = await status_details(refused, error_details_pb2.RetryInfo)
        assert info.retry_delay.ToMilliseconds() == 1500
        await clock.elapse(r.server.settings.config_timeout)
        codes = Counter([await call.code() for call in silent])
        assert codes[grpc.StatusCode.DEADLINE_EXCEEDED] == over
        assert (await open_as(r, "")).started.session_id  # and the connection itself goes on


async def test_silent_streams_of_many_connections_give_way_to_who_speaks():
    async with running(max_unconfigured_streams=4) as r, contextlib.AsyncExitStack() as stack:
        silent = []
        for _ in range(6):
            channel = await stack.enter_async_context(channel_to(r))
            silent += [grpc_stream(channel) for _ in range(4)]
        await until(lambda: r.metric("tilestream_calls_refused_total", reason="streams") == 8)
        assert (await open_as(r, "")).started.session_id


def grpc_stream(channel):
    return channel.stream_stream("/tilestream.v1.SegmentationService/StreamSegment")()


async def test_64_silent_sessions_give_way_to_somebody_who_has_fewer():
    clock = ManualClock()
    async with running(clock=clock) as r, channel_to(r) as other:
        silent = [await r.open() for _ in range(64)]
        code, _ = await (await open_as(r, "", other)).status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        clock.advance(r.server.settings.silence_timeout)
        await silent[0].frame(1, jpeg())  # this one is not silent
        assert (await silent[0].result()).status == pb.FRAME_STATUS_OK
        assert (await open_as(r, "", other)).started.session_id
        await silent[1].rest()
        code, details = await silent[1].status()
        assert code is grpc.StatusCode.UNAVAILABLE and "silent" in details
        assert len(r.server.registry) == 64
        code, _ = await (await open_as(r, "")).status()  # who has most does not get more
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_2000_calls_at_once_are_answered_or_told_why_not():
    async with running() as r:

        async def ask() -> tuple[str, str]:
            try:
                await r.stub.ListSessions(pb.ListSessionsRequest())
            except grpc.aio.AioRpcError as error:
                return error.code().name, error.details()
            return "OK", ""

        found = Counter(await asyncio.gather(*(ask() for _ in range(2000))))
        assert found.pop(("OK", "")) >= 400
        assert set(found) <= {("RESOURCE_EXHAUSTED", "more than 200 calls per second")}


async def test_a_unary_call_without_a_request_ends():
    clock = ManualClock()
    async with running(clock=clock) as r:
        method = "/tilestream.v1.SegmentationService/ListSessions"
        calls = [r.channel.stream_unary(path)() for path in (method, "/grpc.health.v1.Health/Check")]
        await until(lambda: len(r.server._services.admission.lobby) == 1)
        await until(lambda: len(clock._timers) >= 2)
        clock.advance(r.server.settings.config_timeout)
        for call in calls:
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_watches_of_the_health_are_few_per_connection_and_do_not_delay_a_shutdown():
    async with running() as r:
        health = health_pb2_grpc.HealthStub(r.channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(40)]
        await until(lambda: r.metric("tilestream_calls_refused_total", reason="streams") == 8)
        open_ones = [watch for watch in watches if not watch.done()]
        assert (await open_ones[0].read()).status == SERVING
        await r.server.stop(grace=0.2)
        assert (await open_ones[0].read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_streams_of_a_caller_are_bounded():
    async with running(max_streams_per_caller=2) as r:
        await r.open()
        await r.open()
        code, details = await (await open_as(r, "")).status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "2 streams" in details


async def test_cancelled_streams_leave_nothing():
    async with running(resume_ttl=0) as r:
        for _ in range(300):
            stream = Stream(r.stub.StreamSegment())
            await stream.send(config=pb.SessionConfig())
            stream.call.cancel()
        await until(lambda: not (len(r.server.registry) or r.engine.open_sessions))
        await until(lambda: not r.server._services.admission.streams)
