import contextlib

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.clock import ManualClock
from support.frames import jpeg
from support.server import running
from tilestream import __version__
from tilestream.v1 import segmentation_pb2 as pb


async def test_server_info():
    async with running(max_sessions=3, max_frame_bytes=9999) as r:
        await r.open()
        info = await r.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert (info.version, info.device, info.precision) == (__version__, "fake", "fp32")
        assert (info.sessions, info.max_sessions, info.draining) == (1, 3, False)
        assert info.limits.max_frame_bytes == 9999 and info.default_model == "fake"
        assert list(info.frame_codecs) == [pb.FRAME_CODEC_JPEG, pb.FRAME_CODEC_H264, pb.FRAME_CODEC_H265]
        assert len(info.mask_encodings) == len(info.queue_policies) == 3
        assert 1_700_000_000_000_000 < info.start_time_us <= info.time_us


async def test_models():
    async with running() as r:
        models = (await r.stub.ListModels(pb.ListModelsRequest())).models
        assert [(m.name, m.is_default) for m in models] == [("fake", True), ("other", False)]
        assert [c.value for c in models[0].classes] == list(range(12))
        assert models[0].classes[2].name == "class2" and models[0].classes[2].color == 0x28D70E


async def test_sessions_with_their_numbers():
    async with running() as r:
        stream = await r.open(camera_id="front", queue_policy="QUEUE_POLICY_DROP_OLDEST", weight=2.0)
        await stream.frame(1, jpeg(1, 80, 40))
        await stream.result()
        await stream.frame(2, b"no")
        await stream.result()
        answer = await r.stub.ListSessions(pb.ListSessionsRequest())
        (session,) = answer.sessions
        assert session.start_time_us <= answer.time_us
        assert session.session_id == stream.started.session_id and session.camera_id == "front"
        assert (session.model, session.weight) == ("fake", 2.0)
        assert session.state == pb.SESSION_STATE_ACTIVE
        assert session.queue_policy == pb.QUEUE_POLICY_DROP_OLDEST
        assert (session.frame_size.width, session.frame_size.height) == (80, 40)
        counts = (session.frames_received, session.frames_ok, session.frames_dropped, session.frames_invalid)
        assert counts == (2, 1, 0, 1)
        assert session.fps > 0 and 0 < session.latency_p50_us <= session.latency_p99_us
        assert session.block_budget == 1.0 and session.block_drop_rate == 0.0


async def test_ages_follow_no_clock_that_can_be_set():
    clock = ManualClock()
    async with running(clock=clock, idle_timeout=0, heartbeat_interval=0) as r:
        await r.open()
        clock.advance(100.0)  # while the time of day stood still, or was set back
        info = await r.stub.GetServerInfo(pb.GetServerInfoRequest())
        answer = await r.stub.ListSessions(pb.ListSessionsRequest())
        for start, now in (
            (info.start_time_us, info.time_us),
            (answer.sessions[0].start_time_us, answer.time_us),
        ):
            assert 100.0 <= (now - start) / 1e6 < 130.0


async def test_sessions_come_in_pages_oldest_first():
    async with running() as r:
        ids = [(await r.open()).started.session_id for _ in range(5)]
        seen, token = [], ""
        while True:
            page = await r.stub.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=token))
            assert page.total == 5 and len(page.sessions) <= 2
            seen += [session.session_id for session in page.sessions]
            token = page.next_page_token
            if not token:
                break
        assert seen == ids
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await r.stub.ListSessions(pb.ListSessionsRequest(page_token="bogus"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "page_token: 'bogus'" in caught.value.details()


@pytest.mark.parametrize("on", [True, False])
async def test_reflection_is_a_setting(on):
    async with running(reflection=on) as r:
        call = reflection_pb2_grpc.ServerReflectionStub(r.channel).ServerReflectionInfo()
        with contextlib.suppress(grpc.aio.AioRpcError):  # refused before it was written: the code tells
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        if on:
            services = {s.name for s in (await call.read()).list_services_response.service}
            assert {"tilestream.v1.SegmentationService", "grpc.health.v1.Health"} <= services
        else:
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_metrics_are_served():
    import asyncio
    import socket
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with running(metrics_port=port) as r:
        stream = await r.open()
        await stream.frame(1, jpeg())
        await stream.result()
        await stream.frame(2, b"no")
        await stream.result()
        url = f"http://127.0.0.1:{port}/metrics"
        text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    assert 'tilestream_frames_completed_total{kind="' in text
    assert 'tilestream_frames_invalid_total{reason="not_jpeg"} 1.0' in text
    assert 'tilestream_block_units_computed_total{stride="8"} 8.0' in text
    assert "tilestream_frame_latency_seconds_count 1.0" in text
    assert 'tilestream_stage_seconds_count{stage="decode"} 1.0' in text
    assert "tilestream_sessions 1.0" in text and "tilestream_fps " in text
