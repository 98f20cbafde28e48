"""Sessions whose stream is lost: suspended, resumed, taken over, given up."""

import asyncio
import contextlib
import threading
import time

import grpc
import pytest
from google.rpc import error_details_pb2

from support.clock import ManualClock
from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.proxy import proxied
from support.server import Running, Stream, running, status_details
from support.waiting import LONG, until
from tilestream.messages import DropReason
from tilestream.sessions.frames import Status, Ticket
from tilestream.sessions.session import SessionState
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc as rpc

OK = pb.FRAME_STATUS_OK


def states(r: Running) -> list[SessionState]:
    return [session.state for session in r.server.registry]


async def lose(r: Running, stream: Stream) -> None:
    """Cancel the call: to the server that is what a broken connection is."""
    stream.call.cancel()
    await until(lambda: SessionState.SUSPENDED in states(r))


async def resume(r: Running, lost: Stream, last_result_id: int | None = None, **config) -> Stream:
    token = lost.started.resume_token
    return await r.open(resume_token=token, last_result_id=last_result_id, **config)


async def test_a_lost_session_goes_on_where_it_was():
    async with running() as r:
        lost = await r.open()
        assert not lost.started.resumed and lost.started.limits.resume_ttl_ms == 30_000
        await lost.frame(3, jpeg(3))
        await lost.result()
        await lose(r, lost)
        (listed,) = (await r.stub.ListSessions(pb.ListSessionsRequest())).sessions
        assert listed.state == pb.SESSION_STATE_SUSPENDED
        again = await resume(r, lost, last_result_id=3)
        assert again.started.resumed and again.started.last_frame_id == 3
        assert again.started.session_id == lost.started.session_id
        assert again.started.resume_token == lost.started.resume_token
        await again.frame(4, jpeg(4))
        assert ((await again.result()).frame_id) == 4
        assert list(r.engine.open_sessions) == [again.started.session_id]  # its features were never let go
        await again.done()
        assert not await again.results()
        assert (await again.status())[0] is grpc.StatusCode.OK
        await until(lambda: not r.engine.open_sessions)


async def test_frames_that_were_under_way_are_answered_on_the_next_stream():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        lost = await r.open(frames_in_flight=3)
        for frame_id in range(3):
            await lost.frame(frame_id, jpeg(frame_id))
        await until(lambda: r.server.registry and next(iter(r.server.registry)).last_frame_id == 2)
        await lose(r, lost)
        again = await resume(r, lost, frames_in_flight=3)
        assert again.started.last_frame_id == 2
        gate.set()
        assert [(await again.result()).frame_id for _ in range(3)] == [0, 1, 2]
        assert sum(len(plan) for plan in r.engine.plans) == 3  # nothing was computed twice


async def test_results_that_were_sent_are_sent_again_from_where_the_client_says():
    async with running() as r:
        lost = await r.open()
        for frame_id in range(10, 15):
            await lost.frame(frame_id, jpeg(frame_id - 10))
            first = await lost.result()
        for has, expected in ((12, [13, 14]), (14, []), (None, None)):
            await lose(r, lost)
            lost = await resume(r, lost, last_result_id=has)
            if expected is None:
                assert not lost.started.resumed  # 10 to 12 are confirmed, and gone
                break
            assert lost.started.resumed
            results = [await lost.result() for _ in expected]
            assert [one.frame_id for one in results] == expected
            if results:
                assert results[-1] == first
        assert not (await lost.frame(1, jpeg(1))) and (await lost.result()).frame_id == 1


async def test_a_client_that_lacks_more_than_is_kept_gets_a_new_session():
    async with running() as r:
        lost = await r.open(frames_in_flight=1)
        for frame_id in range(30):
            await lost.frame(frame_id, jpeg())
            await lost.result()
        await lose(r, lost)
        again = await resume(r, lost, last_result_id=2, frames_in_flight=1)
        assert not again.started.resumed and not again.started.HasField("last_frame_id")
        assert again.started.session_id != lost.started.session_id
        await until(lambda: len(r.engine.open_sessions) == 1)


async def test_a_session_that_half_closed_can_be_resumed_for_its_last_results():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        lost = await r.open()
        await lost.frame(0, jpeg(1))
        await lost.done()
        await until(lambda: states(r) == [SessionState.DRAINING])
        await lose(r, lost)
        again = await resume(r, lost)
        assert again.started.last_frame_id == 0
        gate.set()
        await again.done()
        assert [result.frame_id for result in await again.results()] == [0]


async def test_a_session_ends_when_nobody_comes_back_in_time():
    clock = ManualClock()
    async with running(clock=clock, resume_ttl=20) as r:
        lost = await r.open()
        await lose(r, lost)
        clock.advance(19.9)
        again = await resume(r, lost)
        assert again.started.resumed
        await lose(r, again)
        await clock.elapse(20)
        await until(lambda: not len(r.server.registry))
        await until(lambda: not r.engine.open_sessions)
        again = await resume(r, lost)
        assert not again.started.resumed


async def test_nothing_is_kept_where_that_is_off():
    async with running(resume_ttl=0) as r:
        lost = await r.open()
        assert lost.started.limits.resume_ttl_ms == 0
        lost.call.cancel()
        await until(lambda: not len(r.server.registry))
        assert not (await resume(r, lost)).started.resumed


@pytest.mark.parametrize("token", [b"x", b"\0" * 32, b"x" * 1000])
async def test_an_unknown_token_opens_a_new_session(token):
    async with running() as r:
        assert not (await r.open(resume_token=token)).started.resumed


async def test_a_session_is_resumed_only_by_the_one_that_opened_it():
    async with running() as r:

        async def open_as(name: str | None, **config) -> Stream:
            metadata = (("authorization", f"Bearer {name}"),) if name else ()
            stream = Stream(r.stub.StreamSegment(metadata=metadata))
            await stream.send(config=pb.SessionConfig(**config))
            stream.started = (await stream.receive()).session_started
            return stream

        lost = await open_as("alice")
        await lose(r, lost)
        for other in ("mallory", None):
            theirs = await open_as(other, resume_token=lost.started.resume_token)
            assert not theirs.started.resumed
        assert (await open_as("alice", resume_token=lost.started.resume_token)).started.resumed


async def test_tokens_differ_and_stay_out_of_the_log(caplog):
    caplog.set_level("DEBUG")
    async with running() as r:
        streams = [await r.open() for _ in range(3)]
        tokens = {stream.started.resume_token for stream in streams}
        assert len(tokens) == 3 and min(map(len, tokens)) >= 16
        await lose(r, streams[0])
        await resume(r, streams[0])
    assert not any(token.hex() in caplog.text or str(token) in caplog.text for token in tokens)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "other"),
        ("mask_encoding", 2),
        ("frames_in_flight", 5),
        ("output_size", pb.Size(width=9, height=9)),
    ],
)
async def test_a_config_that_differs_is_told_and_costs_nothing(field, value):
    async with running() as r:
        lost = await r.open()
        await lose(r, lost)
        stream = Stream(r.stub.StreamSegment())
        await stream.send(config=pb.SessionConfig(resume_token=lost.started.resume_token, **{field: value}))
        assert not await stream.rest()
        code, details = await stream.status()
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "no resume_token" in details
        bad = await status_details(stream.call, error_details_pb2.BadRequest)
        assert bad.field_violations[0].field == f"config.{field}"
        assert (await resume(r, lost)).started.resumed


async def test_a_stream_that_still_seems_to_live_is_taken_over():
    async with running() as r, proxied(r.server.port) as proxy:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}")
        async with channel:
            old = Stream(rpc.SegmentationServiceStub(channel).StreamSegment())
            await old.send(config=pb.SessionConfig())
            old.started = (await old.receive()).session_started
            await old.frame(1, jpeg(1))
            await old.result()
            proxy.freeze()
            new = await resume(r, old, last_result_id=1)
            assert new.started.resumed and states(r) == [SessionState.ACTIVE]
            await new.frame(2, jpeg(2))
            assert (await new.result()).frame_id == 2
            proxy.thaw()
            await old.rest()
            code, details = await old.status()
            assert code is grpc.StatusCode.ABORTED and "another stream resumed" in details
            await new.frame(3, jpeg(3))
            assert (await new.result()).frame_id == 3


async def test_only_the_last_of_many_that_come_back_at_once_has_the_session():
    async with running() as r:
        lost = await r.open()
        await lose(r, lost)
        streams = await asyncio.gather(*(resume(r, lost) for _ in range(6)), return_exceptions=True)
        opened = [one for one in streams if isinstance(one, Stream)]
        assert opened and all(one.started.resumed for one in opened)
        alive = []
        for one in opened:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, AssertionError):
                await one.frame(5, jpeg(5))
                assert (await one.result()).status == OK
                alive.append(one)
        assert len(alive) == 1 and len(r.server.registry) == 1


async def test_a_suspended_session_gives_way_to_a_new_one():
    async with running(max_sessions=2) as r:
        first, second = await r.open(camera_id="1"), await r.open(camera_id="2")
        await lose(r, first)
        second.call.cancel()
        await until(lambda: states(r) == [SessionState.SUSPENDED] * 2)
        third = await r.open()
        assert (await resume(r, second, camera_id="2")).started.resumed
        assert third.started.session_id in {session.session_id for session in r.server.registry}
        full = Stream(r.stub.StreamSegment())
        await full.send(config=pb.SessionConfig(resume_token=first.started.resume_token))
        await full.rest()
        assert (await full.status())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await until(lambda: len(r.engine.open_sessions) == 2)


async def test_a_shutdown_does_not_wait_for_suspended_sessions():
    async with running(clock=ManualClock(), grace_period=60) as r:  # it would not end before its time is over
        await lose(r, await r.open())
        async with asyncio.timeout(LONG):
            await r.server.stop()
        assert not r.engine.open_sessions and not len(r.server.registry)


async def test_cut_connections_suspend_whatever_their_streams_were_doing():
    """An idle one too: gRPC may report a cut as the end of the client's requests."""
    async with running() as r, proxied(r.server.port) as proxy:
        for round_ in range(15):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
                stream = Stream(rpc.SegmentationServiceStub(channel).StreamSegment())
                await stream.send(config=pb.SessionConfig())
                stream.started = (await stream.receive()).session_started
                for frame_id in range(round_ % 3):
                    await stream.frame(frame_id, jpeg(1))
                proxy.cut()
                await until(lambda: SessionState.ACTIVE not in states(r))
                assert states(r) == [SessionState.SUSPENDED]
                again = await resume(r, stream)
                assert again.started.resumed
                await again.done()
                await again.rest()
            await until(lambda: not len(r.server.registry))


async def test_resumes_are_counted():
    async with running() as r:
        lost = await r.open()
        await lose(r, lost)
        value = r.server.metrics.registry.get_sample_value
        assert value("tilestream_sessions_suspended") == 1
        await resume(r, lost)
        assert value("tilestream_sessions_suspended") == 0
        assert value("tilestream_sessions_resumed_total") == 1
        assert value("tilestream_sessions") == 1


async def test_an_answer_that_arrived_though_its_sending_was_cut_short_is_counted_once():
    async with running() as r:
        lost = await r.open()
        await lost.frame(0, jpeg(0))
        await lost.result()
        live = next(iter(r.server._live_sessions._by_token.values()))
        ticket = Ticket(1, 0, time.monotonic())
        await lose(r, lost)
        assert live.pipeline.inbox.offer(ticket) and ticket.drop(DropReason.QUEUE_FULL)  # written, not popped
        again = await resume(r, lost, last_result_id=1)
        assert again.started.resumed and not len(live.pipeline.inbox)
        value = r.server.metrics.registry.get_sample_value
        assert value("tilestream_frames_dropped_total", {"reason": "queue_full"}) == 1
        assert live.session.stats.answered[Status.DROPPED] == 1
