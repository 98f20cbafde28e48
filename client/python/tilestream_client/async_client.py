"""The asyncio client."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, Unpack

import grpc

from tilestream_client import jpeg
from tilestream_client.async_stream import AsyncDriver, AsyncStream
from tilestream_client.channel import DEFAULT_TARGET, DEFAULT_TIMEOUT, Endpoint
from tilestream_client.config import StreamConfig, StreamOptions
from tilestream_client.errors import SessionClosed, TilestreamError
from tilestream_client.info import Model, ServerInfo, SessionInfo
from tilestream_client.reconnect import DEFAULT_RECONNECT_TIMEOUT, Reconnect
from tilestream_client.sources import AsyncFrames, are_reordered, implied_options, open_source
from tilestream_client.tls import Tls, chosen
from tilestream_client.v1 import segmentation_pb2 as pb
from tilestream_client.v1 import segmentation_pb2_grpc as rpc


class AsyncClient:
    """Like Client, for asyncio. It belongs to the event loop in which it is first used.

    own_connection: share no TCP connection with other clients of this process.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: Tls | bool = False,
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
        metadata: Sequence[tuple[str, str]] = (),
        timeout: float = DEFAULT_TIMEOUT,
        own_connection: bool = False,
    ) -> None:
        self._endpoint = Endpoint(target, credentials, token, metadata, own_connection, tls=chosen(tls))
        self._endpoint.check()
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the channel
        self._channel: grpc.aio.Channel | None = (
            None  # made at first use: it belongs to the loop that runs then
        )
        self._made: rpc.SegmentationServiceStub | None = None
        self._closed = False
        self._drivers: weakref.WeakSet[AsyncDriver] = weakref.WeakSet()  # their tasks keep them

    @property
    def target(self) -> str:
        """The server's address."""
        return self._endpoint.target

    def stream(
        self,
        frames: AsyncFrames,
        *,
        quality: int = jpeg.DEFAULT_QUALITY,
        reconnect_timeout: float = DEFAULT_RECONNECT_TIMEOUT,
        **options: Unpack[StreamOptions],
    ) -> AsyncStream:
        """A session that sends ``frames``; iterate it with ``async for``.

        frames: whatever Client.stream takes (plain iterators are read in a thread), or an async iterable
        of RGB arrays, JPEG bytes or Frames. reconnect_timeout: as there. Raises what Client.stream raises.
        """
        source = frames if isinstance(frames, AsyncIterable) else open_source(frames)
        wanted: StreamOptions = {**implied_options(source), **options}
        config = StreamConfig(**wanted).to_proto()
        driver = AsyncDriver(
            config,
            source,
            self._start_call,
            self._endpoint,
            quality=quality,
            timeout=self._timeout,
            reconnect=Reconnect(reconnect_timeout),
            reordered=are_reordered(source),
        )
        self._drivers.add(driver)
        return AsyncStream(driver, source)

    async def info(self) -> ServerInfo:
        """What the server is and what it offers."""
        return ServerInfo.from_proto(await self._ask(self._stub.GetServerInfo, pb.GetServerInfoRequest()))

    async def models(self) -> list[Model]:
        """The models that are loaded, the default first."""
        answer = await self._ask(self._stub.ListModels, pb.ListModelsRequest())
        return [Model.from_proto(model) for model in answer.models]

    async def sessions(self) -> AsyncIterator[SessionInfo]:
        """The live sessions, oldest first, fetched page by page."""
        request = pb.ListSessionsRequest()
        while True:
            answer = await self._ask(self._stub.ListSessions, request)
            for session in answer.sessions:
                yield SessionInfo.from_proto(session, answer.time_us / 1e6)
            if not answer.next_page_token:
                return
            request = pb.ListSessionsRequest(page_token=answer.next_page_token)

    async def close(self) -> None:
        """End all streams and the connection; may be called again."""
        self._closed = True
        if self._channel is None:
            return
        self._check_loop()
        for driver in list(self._drivers):
            await driver.close()
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        """The client itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close it."""
        await self.close()

    @property
    def _stub(self) -> Any:
        """Raises TilestreamError in another loop than the first one, and SessionClosed once it is closed."""
        if self._made is None:
            if self._closed:
                raise SessionClosed("the client is closed")
            self._loop = asyncio.get_running_loop()
            self._channel = self._endpoint.aio_channel()
            self._made = rpc.SegmentationServiceStub(self._channel)
        self._check_loop()
        return self._made

    def _check_loop(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            raise TilestreamError(
                "this AsyncClient belongs to the event loop in which it was first used; make one in each "
                "asyncio.run(), or run everything in one"
            )

    def _start_call(self) -> Any:
        return self._stub.StreamSegment(metadata=self._endpoint.call_metadata())

    async def _ask(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=self._timeout, metadata=self._endpoint.call_metadata())
        except grpc.aio.AioRpcError as error:
            raise await self._endpoint.aio_failure(error, started=False) from error
        except grpc.aio.UsageError as error:  # so gRPC says that the channel is closed
            raise SessionClosed("the client is closed") from error
