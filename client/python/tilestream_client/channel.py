"""What both clients need of gRPC: where to connect, with which options and credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tilestream_client._version import __version__
from tilestream_client.proxies import proxy_options
from tilestream_client.token import checked_metadata, checked_token

DEFAULT_TARGET = "localhost:50051"
DEFAULT_TIMEOUT = 20.0  # seconds, for everything that is answered at once
_MAX_ANSWER_BYTES = 64 << 20  # a raw mask of 8192x4096 with a confidence map; gRPC's own limit is 4 MiB


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and how to talk to it.

    credentials: None = plain text. token: sent as ``authorization: Bearer``; goes with every call.
    metadata: further pairs for every call, such as ``traceparent``. own_connection: share no TCP
    connection with other clients of this process.
    """

    target: str = DEFAULT_TARGET
    credentials: grpc.ChannelCredentials | None = None
    token: str = field(default="", repr=False)
    metadata: Sequence[tuple[str, str]] = ()
    own_connection: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidConfig for a token or metadata that cannot be sent."""
        object.__setattr__(self, "token", checked_token(self.token))
        object.__setattr__(self, "metadata", checked_metadata(self.metadata))

    def call_metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        bearer = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        return (*bearer, *self.metadata)

    def options(self) -> list[tuple[str, Any]]:
        """The options of the channel."""
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
            ("grpc.max_send_message_length", -1),  # the server's limit is checked per frame
            ("grpc.keepalive_time_ms", 20_000),  # finds servers that vanished
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),  # streams have a back-off of their own
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.primary_user_agent", f"tilestream-client/{__version__}"),
        ]
        options += proxy_options(self.target)
        if self.own_connection:
            options.append(("grpc.use_local_subchannel_pool", 1))
        return options

    def channel(self) -> grpc.Channel:
        """A blocking channel."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, options=self.options())
        return grpc.secure_channel(self.target, self.credentials, options=self.options())

    def aio_channel(self) -> grpc.aio.Channel:
        """An asyncio channel."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=self.options())
        return grpc.aio.secure_channel(self.target, self.credentials, options=self.options())
