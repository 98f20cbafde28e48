"""A real server on a real socket, with the fake engine."""

import contextlib
from collections.abc import AsyncIterator, Callable

import grpc
from grpc_status import rpc_status

from support.fake_engine import FakeEngine
from tilestream.clock import Clock
from tilestream.config import Settings
from tilestream.server import SERVICE, Server
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc


class Running:
    """A server, its engine, and a client's stub."""

    def __init__(self, server: Server, engine: FakeEngine, channel: grpc.aio.Channel) -> None:
        self.server, self.engine, self.channel = server, engine, channel
        self.stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        self._opened: list[Stream] = []  # a call that nothing refers to any more is cancelled

    def metric(self, name: str, **labels: str) -> float | None:
        """A metric's value as it would be scraped now."""
        return self.server.metrics.registry.get_sample_value(name, labels)

    def requests_read(self) -> float:
        """How many requests of streams, configs among them, the server has taken in."""
        method = {"grpc_service": SERVICE, "grpc_method": "StreamSegment"}
        value = self.metric("grpc_server_msg_received_total", grpc_type="bidi_stream", **method)
        assert value is not None
        return value

    def keep(self, stream: "Stream") -> None:
        """Do not let go of it."""
        self._opened.append(stream)

    async def open(self, **config) -> "Stream":
        """A stream whose session has started."""
        stream = Stream(self.stub.StreamSegment())
        await stream.send(config=pb.SessionConfig(**config))
        stream.started = (await stream.receive()).session_started
        assert stream.started.session_id
        self._opened.append(stream)
        return stream


class Stream:
    """The client's end of a stream."""

    def __init__(self, call) -> None:
        self.call = call
        self.started = pb.SessionStarted()

    async def send(self, **request) -> None:
        await self.call.write(pb.StreamSegmentRequest(**request))

    async def frame(self, frame_id: int, data: bytes, **fields) -> None:
        await self.send(frame=pb.Frame(frame_id=frame_id, data=data, **fields))

    async def receive(self) -> pb.StreamSegmentResponse:
        response = await self.call.read()
        assert response is not grpc.aio.EOF, "the stream ended"
        return response

    async def result(self) -> pb.FrameResult:
        """The next result; heartbeats and notices are passed over."""
        while True:
            response = await self.receive()
            if response.WhichOneof("response") == "result":
                return response.result

    async def done(self) -> None:
        await self.call.done_writing()

    async def rest(self) -> list[pb.StreamSegmentResponse]:
        """Everything up to the stream's end; the status is :meth:`status`'s."""
        responses = []
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (response := await self.call.read()) is not grpc.aio.EOF:
                responses.append(response)
        return responses

    async def results(self) -> list[pb.FrameResult]:
        """The results in :meth:`rest`: there may be heartbeats and notices, too."""
        return [response.result for response in await self.rest() if response.HasField("result")]

    async def status(self) -> tuple[grpc.StatusCode, str]:
        return await self.call.code(), await self.call.details()


@contextlib.asynccontextmanager
async def running(
    engine: FakeEngine | None = None,
    clock: Clock | None = None,
    connect: Callable[[str], grpc.aio.Channel] = grpc.aio.insecure_channel,
    **settings,
) -> AsyncIterator[Running]:
    engine = engine or FakeEngine()
    server = Server(Settings(**{"port": 0, **settings}), lambda: engine, clock=clock)
    await server.start()
    channel = connect(f"127.0.0.1:{server.port}")
    try:
        yield Running(server, engine, channel)
    finally:
        if engine.gate is not None:
            engine.gate.set()
        await channel.close()
        if not server.lifecycle.draining.is_set():
            await server.stop(grace=5.0)


async def status_details(call, kind):
    """The detail of this kind in the status, or fail."""
    error = grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
    status = rpc_status.from_call(_Call(error))
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")


class _Call:
    """grpc_status wants the synchronous interface."""

    def __init__(self, error):
        self.code, self.details, self.trailing_metadata = error.code, error.details, error.trailing_metadata


async def refused(r: Running, *requests: pb.StreamSegmentRequest) -> Stream:
    """A stream that has sent these and ended; a server that refuses it may be quicker than they are."""
    stream = Stream(r.stub.StreamSegment())
    with contextlib.suppress(grpc.aio.AioRpcError):  # the status tells of it
        for request in requests:
            await stream.call.write(request)
        await stream.done()
    await stream.rest()
    return stream


def config(**fields) -> pb.StreamSegmentRequest:
    return pb.StreamSegmentRequest(config=pb.SessionConfig(**fields))


def frame(frame_id: int, data: bytes) -> pb.StreamSegmentRequest:
    return pb.StreamSegmentRequest(frame=pb.Frame(frame_id=frame_id, data=data))
