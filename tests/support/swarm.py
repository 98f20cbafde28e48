"""Clients that behave as clients do: well, slowly, badly, or not at all any more.

Run as a process: ``python -m support.swarm PORT CLIENTS SECONDS SEED REPORT``. Each client does one thing
after another until the time is over. The report has a line for every stream that came to its end, as JSON:
what it did, frames sent, results received. What must not happen (a result out of order or for a frame that
was not sent, a frame without a result on a stream that lived) raises, and is a line with ``error``.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from pathlib import Path

import grpc

from support.frames import encode, photo
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc
from tilestream_client import AsyncClient, ServerBusy, TilestreamError

SIZES = ((64, 48), (96, 64), (128, 96))
GARBAGE = (b"", b"no jpeg", b"\xff\xd8\xff\xe0" + bytes(100), bytes(3000))


class Swarm:
    """``clients`` of them against the server at ``port``."""

    def __init__(self, port: int, clients: int, seconds: float, seed: int, report: Path) -> None:
        self._target = f"127.0.0.1:{port}"
        self._port, self._clients, self._seed = port, clients, seed
        self._until = time.monotonic() + seconds
        self._report = report.open("a")
        self._jpegs = [encode(photo(*SIZES[i % len(SIZES)], seed=i)) for i in range(12)]

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(self._target)) for _ in range(4)
            ]
            client = await stack.enter_async_context(AsyncClient(self._target, timeout=60))
            await asyncio.gather(
                *(self._live(number, channels[number % 4], client) for number in range(self._clients))
            )

    async def _live(self, number: int, channel: grpc.aio.Channel, client: AsyncClient) -> None:
        order = random.Random(f"{self._seed} {number}")
        things = (self._stream, self._stream, self._lose_and_resume, self._stall, self._garbage, self._noise)
        while time.monotonic() < self._until:
            thing = order.choice(things)
            row = {"what": thing.__name__, "sent": 0, "answered": 0}
            try:
                await thing(order, channel, client, row)
            except (ServerBusy, OSError):
                await asyncio.sleep(order.uniform(0.1, 0.5))
                continue
            except (AssertionError, TilestreamError, grpc.RpcError) as error:
                row["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(row), file=self._report, flush=True)

    def _jpeg(self, frame_id: int) -> bytes:
        return self._jpegs[frame_id % len(self._jpegs)]

    async def _stream(self, order, channel, client, row) -> None:
        """A camera with the real client."""
        count = order.randint(1, 30)
        policy = order.choice(("wait", "drop-oldest", "latest-only"))
        pause = order.choice((0.0, 0.05))

        async def camera():
            for index in range(count):
                await asyncio.sleep(pause)
                if time.monotonic() > self._until:
                    return
                yield self._jpeg(index)

        stream = client.stream(camera(), queue_policy=policy, frames_in_flight=order.randint(1, 4))
        async for result in stream:
            assert result.frame_id == row["answered"], "out of order"
            row["answered"] += 1
        row["sent"] = stream.frames_sent
        assert row["answered"] == row["sent"], "a frame without a fate"
        assert row["sent"] == count or time.monotonic() > self._until

    async def _lose_and_resume(self, order, channel, client, row) -> None:
        """A client that cancels its calls, and goes on with the token; by hand."""
        count, got, token = order.randint(5, 20), -1, b""
        while got < count - 1:
            config = pb.SessionConfig(resume_token=token, frames_in_flight=3)
            if token and got >= 0:
                config.last_result_id = got
            call, started = await self._open(channel, config)
            has = started.last_frame_id if started.resumed and started.HasField("last_frame_id") else got
            token = started.resume_token
            sending = asyncio.create_task(self._send(call, range(max(has, got) + 1, count)))
            leave_after = order.randint(0, count) if order.random() < 0.7 else count
            try:
                while got < count - 1 and leave_after > 0:
                    response = await call.read()
                    if response is grpc.aio.EOF:
                        raise AssertionError(f"ended by {await call.code()}: {await call.details()}")
                    if response.HasField("result"):
                        assert response.result.frame_id == got + 1, "out of order"
                        assert response.result.capture_time_us == 1000 + got + 1
                        got, leave_after = got + 1, leave_after - 1
            finally:
                call.cancel()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        row["sent"], row["answered"] = count, got + 1

    async def _stall(self, order, channel, client, row) -> None:
        """Sends, does not read for a while, then reads everything."""
        count = order.randint(1, 8)
        call, _ = await self._open(channel, pb.SessionConfig(frames_in_flight=4))
        sending = asyncio.create_task(self._send(call, range(count), end=True))
        await asyncio.sleep(order.uniform(0.0, 3.0))
        while (response := await call.read()) is not grpc.aio.EOF:
            if response.HasField("result"):
                assert response.result.frame_id == row["answered"], "out of order"
                row["answered"] += 1
        await sending
        row["sent"] = count
        assert await call.code() is grpc.StatusCode.OK and row["answered"] == count

    async def _garbage(self, order, channel, client, row) -> None:
        """Frames that are none, and after them something that ends the stream."""
        count = order.randint(0, 6)
        call, _ = await self._open(channel, pb.SessionConfig(queue_policy=order.randint(0, 3)))
        for index in range(count):
            frame = pb.Frame(frame_id=index, data=order.choice((*GARBAGE, self._jpeg(index))))
            await call.write(pb.StreamSegmentRequest(frame=frame))
        last = order.choice(
            (
                pb.StreamSegmentRequest(),
                pb.StreamSegmentRequest(config=pb.SessionConfig()),
                pb.StreamSegmentRequest(frame=pb.Frame(frame_id=0, data=self._jpeg(0))),
            )
        )
        bad = count > 0 or last.WhichOneof("request") != "frame"
        await call.write(last)
        await call.done_writing()
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (response := await call.read()) is not grpc.aio.EOF:
                if response.HasField("result"):
                    assert response.result.frame_id == row["answered"], "out of order"
                    row["answered"] += 1
        code = await call.code()
        wanted = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
        assert code in (wanted if bad else (grpc.StatusCode.OK,)), f"{code} {await call.details()}"
        row["sent"] = count + (not bad)
        assert row["answered"] == row["sent"]

    async def _noise(self, order, channel, client, row) -> None:
        """Bytes that are not even HTTP/2."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(order.randbytes(order.randint(1, 2000)))
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.transport.abort()

    async def _send(self, call, frame_ids, end: bool = False) -> None:
        for index in frame_ids:
            frame = pb.Frame(frame_id=index, data=self._jpeg(index), capture_time_us=1000 + index)
            await call.write(pb.StreamSegmentRequest(frame=frame))
        if end:
            await call.done_writing()

    @staticmethod
    async def _open(channel, config):
        """A call and what it started with. Raises ServerBusy where it is refused."""
        call = segmentation_pb2_grpc.SegmentationServiceStub(channel).StreamSegment()
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await call.write(pb.StreamSegmentRequest(config=config))
            response = await call.read()
            if response is not grpc.aio.EOF:
                return call, response.session_started
        code = await call.code()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, f"{code}: {await call.details()}"
        raise ServerBusy("refused")


if __name__ == "__main__":
    port, clients, seconds, seed, report = sys.argv[1:]
    asyncio.run(Swarm(int(port), int(clients), float(seconds), int(seed), Path(report)).run())
