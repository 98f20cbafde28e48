"""One identity does everything it may and may not do; the other one loses nothing."""

import asyncio
import contextlib

import grpc

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.identities import open_as, shows, tokens_of
from support.server import running
from tilestream.v1 import segmentation_pb2 as pb

FRAMES = 40
POLICY = "default: {sessions: 8, streams: 40}\n"


async def test_the_frames_of_one_are_not_lost_while_another_floods(tmp_path):
    (tmp_path / "p").write_text(POLICY)
    quiet, flood = tokens_of(tmp_path / "t", "quiet", "flood")
    engine = FakeEngine()
    engine.seconds = 0.004  # a frame: the flood has always more than the engine can do
    files = {"token_file": tmp_path / "t", "policy_file": tmp_path / "p"}
    async with running(
        engine, max_batch=4, block_budget=1.0, min_block_budget=1.0, max_calls_per_second=10, **files
    ) as r:
        other = grpc.aio.insecure_channel(
            f"127.0.0.1:{r.server.port}", options=(("grpc.use_local_subchannel_pool", 1),)
        )
        camera = await open_as(r, quiet, queue_policy="QUEUE_POLICY_DROP_OLDEST", frames_in_flight=4)
        assert camera.started.session_id
        flooding = [asyncio.ensure_future(persistent(attack, r, flood, other)) for attack in ATTACKS]
        frame_id = 0
        while frame_id < FRAMES or not felt(r):
            await camera.frame(frame_id, jpeg())
            result = await camera.result()
            assert (result.frame_id, result.status) == (frame_id, pb.FRAME_STATUS_OK), result
            frame_id += 1
        for attack in flooding:
            attack.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
        await other.close()


def felt(r) -> bool:
    """Whether every kind of attack has reached the server."""
    refused = [r.metric("tilestream_calls_refused_total", reason=reason) for reason in ("streams", "calls")]
    return all(refused) and bool(r.metric("tilestream_frames_invalid_total", reason="not_jpeg"))


async def persistent(attack, r, token, channel):
    """Goes on whatever the server does about it."""
    while True:
        with contextlib.suppress(Exception):  # whatever gRPC has for a call that ended
            await attack(r, token, channel)
        await asyncio.sleep(0.01)


async def overload(r, token, channel):
    """As many sessions as it may have, each with frames and garbage as fast as they go."""
    streams = [await open_as(r, token, channel, frames_in_flight=8) for _ in range(8)]
    streams = [stream for stream in streams if stream.started.session_id]  # some may have been refused

    async def send(stream):
        for frame_id in range(100_000):
            await stream.frame(frame_id, jpeg() if frame_id % 3 else b"garbage")

    async def read(stream):
        while True:
            await stream.result()

    await asyncio.gather(*(work(stream) for stream in streams for work in (send, read)))


async def silent_streams(r, token, channel):
    """Streams that never say what they want, again and again."""
    start = channel.stream_stream("/tilestream.v1.SegmentationService/StreamSegment")
    while True:
        calls = [start(metadata=shows(token)) for _ in range(100)]
        await asyncio.gather(*(call.code() for call in calls))


async def calls(r, token, channel):
    """Questions without end."""
    ask = channel.unary_unary("/tilestream.v1.SegmentationService/ListSessions")

    async def one():
        with contextlib.suppress(grpc.aio.AioRpcError):
            await ask(b"", metadata=shows(token))

    while True:
        await asyncio.gather(*(one() for _ in range(500)))
        await asyncio.sleep(0.05)


ATTACKS = (overload, silent_streams, calls)
