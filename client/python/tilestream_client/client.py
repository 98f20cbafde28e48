"""The plain (blocking) client."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, Unpack

import grpc

from tilestream_client import jpeg
from tilestream_client.channel import DEFAULT_TARGET, DEFAULT_TIMEOUT, Endpoint
from tilestream_client.config import StreamConfig, StreamOptions
from tilestream_client.errors import SessionClosed
from tilestream_client.info import Model, ServerInfo, SessionInfo
from tilestream_client.reconnect import DEFAULT_RECONNECT_TIMEOUT, Reconnect
from tilestream_client.sources import Frames, are_reordered, implied_options, open_source
from tilestream_client.stream import Driver, Stream
from tilestream_client.tls import Tls, chosen
from tilestream_client.v1 import segmentation_pb2 as pb
from tilestream_client.v1 import segmentation_pb2_grpc as rpc

_Answer = TypeVar("_Answer")


class Client:
    """A connection to one server; any number of streams may run on it, from any threads.

    target: "host:port" or "unix:/path". tls: False = plain text, True = encrypted, for the system's
    authorities, Tls(...) to trust others or to show a certificate. credentials: those of gRPC, in place of
    ``tls``. token: sent as a bearer token. metadata: further pairs for every call. timeout: seconds that the
    server has to answer a question or to open a session. Nothing is sent before it is needed. Raises
    InvalidConfig where files of ``tls`` cannot be used, or a token cannot be sent.
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
    ) -> None:
        self._endpoint = Endpoint(target, credentials, token, metadata, tls=chosen(tls))
        self._timeout = timeout
        self._channel = self._endpoint.channel()
        self._stub = rpc.SegmentationServiceStub(self._channel)
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()

    @property
    def target(self) -> str:
        """The server's address."""
        return self._endpoint.target

    def stream(
        self,
        frames: Frames,
        *,
        quality: int = jpeg.DEFAULT_QUALITY,
        reconnect_timeout: float = DEFAULT_RECONNECT_TIMEOUT,
        **options: Unpack[StreamOptions],
    ) -> Stream:
        """A session that sends ``frames``; iterate it for the results.

        frames: a path (video file, image, folder of images), a URL of live video, a camera's index, or any
        iterable of RGB arrays (uint8 [H, W, 3]), JPEG bytes or Frames; VideoPackets and LivePackets say what
        ``frame_codec`` they are of. quality: of the JPEGs made from arrays, 1..100.
        reconnect_timeout: seconds for which a stream that was lost is opened again before that is an error;
        every frame still gets one answer, in order. 0: a lost stream is an error. options: see StreamConfig.

        Raises SourceError and InvalidConfig here where that can be told without the server.
        """
        source = open_source(frames)
        wanted: StreamOptions = {**implied_options(source), **options}
        config = StreamConfig(**wanted).to_proto()
        driver = Driver(
            config,
            source,
            self._start_call,
            self._endpoint,
            quality=quality,
            timeout=self._timeout,
            reconnect=Reconnect(reconnect_timeout),
            reordered=are_reordered(source),
        )
        stream = Stream(driver, source)
        self._streams.add(stream)
        return stream

    def info(self) -> ServerInfo:
        """What the server is and what it offers."""
        return ServerInfo.from_proto(self._ask(self._stub.GetServerInfo, pb.GetServerInfoRequest()))

    def models(self) -> list[Model]:
        """The models that are loaded, the default first."""
        answer = self._ask(self._stub.ListModels, pb.ListModelsRequest())
        return [Model.from_proto(model) for model in answer.models]

    def sessions(self) -> Iterator[SessionInfo]:
        """The live sessions, oldest first, fetched page by page."""
        request = pb.ListSessionsRequest()
        while True:
            answer = self._ask(self._stub.ListSessions, request)
            for session in answer.sessions:
                yield SessionInfo.from_proto(session, answer.time_us / 1e6)
            if not answer.next_page_token:
                return
            request = pb.ListSessionsRequest(page_token=answer.next_page_token)

    def close(self) -> None:
        """End all streams and the connection; may be called again."""
        for stream in list(self._streams):
            stream.close()
        self._channel.close()

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self.close()

    def _start_call(self, requests: Iterator[pb.StreamSegmentRequest]) -> Any:
        return self._stub.StreamSegment(requests, metadata=self._endpoint.call_metadata())

    def _ask(self, method: Callable[..., _Answer], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout, metadata=self._endpoint.call_metadata())
        except grpc.RpcError as error:
            raise self._endpoint.failure(error, started=False) from error
        except ValueError as error:  # so gRPC says that the channel is closed
            raise SessionClosed("the client is closed") from error
