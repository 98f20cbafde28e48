"""The real command as a process of its own, with the real engine: start, serve, SIGTERM."""

import asyncio
import signal
from pathlib import Path

import grpc
import pytest

from support.frames import decode_png, encode, photo
from support.networks import write_weights
from support.processes import served
from support.server import Stream
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small network with random weights: what it says does not matter here."""
    return write_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


async def open_stream(channel: grpc.aio.Channel, **config) -> Stream:
    stream = Stream(segmentation_pb2_grpc.SegmentationServiceStub(channel).StreamSegment())
    await stream.send(config=pb.SessionConfig(**config))
    stream.started = (await stream.receive()).session_started
    return stream


async def test_frames_are_segmented_and_sigterm_ends_in_order(weights, tmp_path):
    with served(tmp_path, "--models", str(weights), "--grace-period", "60") as (process, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = await open_stream(
                channel, include_bins=True, include_confidence=True, frames_in_flight=4
            )
            palette = [
                (c.color >> 16, c.color >> 8 & 255, c.color & 255) for c in stream.started.model.classes
            ]
            await stream.frame(0, encode(photo(203, 117)))
            result = await stream.result()
            assert result.status == pb.FRAME_STATUS_OK, result.detail
            assert decode_png(result.mask.data, palette).shape == (117, 203)
            assert result.HasField("confidence") and result.HasField("bins")
            assert result.reuse.units_computed > 0 and result.times.engine_us > 0

            for i in range(1, 4):
                await stream.frame(i, encode(photo(203, 117, seed=i)))
            await stream.result()  # one of them is answered, the others are on their way
            process.send_signal(signal.SIGTERM)
            responses = await stream.rest()
            results = [x.result for x in responses if x.HasField("result")]
            assert [x.frame_id for x in results] == [2, 3][: len(results)]
            assert all(x.status == pb.FRAME_STATUS_OK for x in results)
            assert any(x.HasField("draining") for x in responses)
            assert (await stream.status())[0] is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(process.wait, 60) == 0
        log = (tmp_path / "server.log").read_text()
        assert "serving" in log and f":{port}" in log and "stopped" in log and "Traceback" not in log
