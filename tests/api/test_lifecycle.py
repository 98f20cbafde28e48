"""Heartbeats, idle and old sessions, and a server that shuts down."""

import asyncio
import threading

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.clock import ManualClock
from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import Stream, config, refused, running, status_details
from support.waiting import until
from tilestream.v1 import segmentation_pb2 as pb


async def test_heartbeats_fill_the_silence():
    clock = ManualClock()
    async with running(clock=clock, heartbeat_interval=10) as r:
        stream = await r.open()
        for _ in range(3):
            await clock.elapse(10)
            assert (await stream.receive()).heartbeat.time_us > 0
        await stream.frame(1, jpeg())
        assert (await stream.result()).status == pb.FRAME_STATUS_OK


async def test_no_heartbeats_where_they_are_off():
    clock = ManualClock()
    async with running(clock=clock, heartbeat_interval=0, idle_timeout=1000) as r:
        stream = await r.open()
        clock.advance(900)
        await stream.frame(1, jpeg())
        assert (await stream.receive()).HasField("result")


async def test_a_silent_client_is_ended():
    clock = ManualClock()
    async with running(clock=clock, idle_timeout=0.3) as r:
        stream = await r.open()
        await clock.elapse(0.3)
        await stream.rest()
        code, details = await stream.status()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED and "no request for 0.3 s" in details
        assert len(r.server.registry) == 0


async def test_a_client_without_a_config_is_ended():
    clock = ManualClock()
    async with running(clock=clock, idle_timeout=0.3) as r:
        stream = Stream(r.stub.StreamSegment())
        await clock.elapse(0.3)
        await stream.rest()
        assert (await stream.status())[0] is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_heartbeats_of_the_client_keep_a_session():
    clock = ManualClock()
    async with running(clock=clock, idle_timeout=2.0) as r:
        stream = await r.open()
        for count in range(24):
            await stream.send(heartbeat=pb.Heartbeat())
            await until(lambda count=count: r.requests_read() == 2 + count)
            clock.advance(1.9)
        await stream.frame(1, jpeg())
        assert (await stream.result()).status == pb.FRAME_STATUS_OK


async def test_waiting_for_a_slow_engine_is_not_idleness():
    gate, clock = threading.Event(), ManualClock()
    async with running(FakeEngine(gate), clock, idle_timeout=0.3) as r:
        stream = await r.open()
        (session,) = r.server.registry
        await stream.frame(1, jpeg())
        await until(lambda: session.stats.received)
        for _ in range(3):
            await clock.elapse(0.3)
        gate.set()
        assert (await stream.result()).status == pb.FRAME_STATUS_OK
        await stream.frame(2, jpeg())
        assert (await stream.result()).status == pb.FRAME_STATUS_OK


async def test_a_client_that_never_reads_is_ended():
    clock = ManualClock()
    async with running(clock=clock, idle_timeout=0.5) as r:
        stream = await r.open(mask_encoding="MASK_ENCODING_RAW", output_size=pb.Size(width=2000, height=2000))

        async def send_for_ever():
            for i in range(10_000):
                await stream.frame(i, jpeg())

        sending = asyncio.ensure_future(send_for_ever())
        while len(r.server.registry):  # a write that makes progress is over before the clock comes that far
            await asyncio.sleep(0.02)
            clock.advance(0.01)
        assert r.metric("tilestream_sessions_closed_total", cause="idle") == 1
        sending.cancel()
        stream.call.cancel()


async def test_an_old_session_is_told_and_then_ended():
    clock = ManualClock()
    async with running(clock=clock, max_session_age=2.5, max_age_notice=2.2) as r:
        stream = await r.open()
        await stream.frame(1, jpeg())
        await until(lambda: r.metric("tilestream_frames_received_total") == 1)
        await clock.elapse(0.3)
        await clock.elapse(2.2)
        responses = {x.WhichOneof("response"): x for x in await stream.rest()}
        assert responses.keys() >= {"result", "draining"}
        notice = responses["draining"].draining
        assert notice.reason == pb.DRAIN_REASON_MAX_AGE and 0 < notice.grace_ms <= 2200
        code, details = await stream.status()
        assert code is grpc.StatusCode.UNAVAILABLE and "age limit" in details
        await status_details(stream.call, error_details_pb2.RetryInfo)


async def health_of(r, service="") -> int:
    stub = health_pb2_grpc.HealthStub(r.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_draining_answers_what_was_accepted_and_refuses_the_rest():
    gate = threading.Event()
    async with running(FakeEngine(gate), ManualClock(), retry_delay=1.25, grace_period=30) as r:
        stream, waiting = await r.open(), Stream(r.stub.StreamSegment())
        await waiting.call.wait_for_connection()
        for i in range(2):
            await stream.frame(i, jpeg(i))
        await until(r.engine.stepping.is_set)
        (session,) = r.server.registry
        await until(lambda: session.stats.received == 2)
        assert await health_of(r) == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.ensure_future(r.server.stop())

        notice = await stream.receive()
        assert notice.draining.reason == pb.DRAIN_REASON_SHUTDOWN
        assert 0 < notice.draining.grace_ms <= 30_000 and notice.draining.retry_delay_ms == 1250
        for name in ("", "tilestream.v1.SegmentationService"):
            assert await health_of(r, name) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await r.stub.GetServerInfo(pb.GetServerInfoRequest())).draining

        for late in (await refused(r, config()), waiting):
            await late.rest()
            code, details = await late.status()
            assert code is grpc.StatusCode.UNAVAILABLE and "shutting down" in details
            info = await status_details(late.call, error_details_pb2.RetryInfo)
            assert info.retry_delay.ToMilliseconds() == 1250

        gate.set()
        results = await stream.results()
        assert [(x.frame_id, x.status) for x in results] == [(i, pb.FRAME_STATUS_OK) for i in range(2)]
        code, _ = await stream.status()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert (
            await status_details(stream.call, error_details_pb2.RetryInfo)
        ).retry_delay.ToMilliseconds() == 1250
        await stopping
        assert r.engine.closed


async def test_frames_that_do_not_make_it_within_the_grace_period_are_answered_too():
    gate, clock = threading.Event(), ManualClock()
    async with running(FakeEngine(gate), clock) as r:
        stream = await r.open()
        await stream.frame(0, jpeg())
        await until(r.engine.stepping.is_set)
        stopping = asyncio.ensure_future(r.server.stop(grace=2.0))
        await until(r.server.lifecycle.draining.is_set)
        clock.advance(1.1)
        results = await stream.results()
        assert [(x.status, x.drop_reason) for x in results] == [
            (pb.FRAME_STATUS_DROPPED, pb.DROP_REASON_SHUTDOWN)
        ]
        assert (await stream.status())[0] is grpc.StatusCode.UNAVAILABLE
        gate.set()
        await stopping


async def test_a_shutdown_under_load_loses_no_accepted_frame():
    engine = FakeEngine()
    engine.seconds = 0.003
    async with running(engine, ManualClock(), grace_period=30, max_sessions=12) as r:

        async def camera(number: int) -> int:
            """Sends for ever; how many results came before the end."""
            stream = await r.open(frames_in_flight=1 + number % 4)
            opened.append(number)
            sending = asyncio.ensure_future(send(stream))
            results = await stream.results()
            sending.cancel()
            assert [x.frame_id for x in results] == list(range(len(results)))
            assert all(x.status == pb.FRAME_STATUS_OK for x in results)
            code, details = await stream.status()
            # Where a write was under way, grpc.aio puts this in the place of the server's status.
            assert code is grpc.StatusCode.UNAVAILABLE or details == "Internal error from Core"
            return len(results)

        async def send(stream: Stream) -> None:
            for index in range(10_000):
                await stream.frame(index, jpeg(index % 12))

        opened: list[int] = []
        cameras = [asyncio.ensure_future(camera(number)) for number in range(12)]
        await until(lambda: len(opened) == 12 and r.metric("tilestream_frames_received_total") >= 60)
        await r.server.stop()
        assert sum(await asyncio.gather(*cameras)) == r.metric("tilestream_frames_received_total") >= 60
