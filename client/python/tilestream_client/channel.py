"""What both clients need of gRPC: where to connect, with which options and credentials, why that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tilestream_client._version import __version__
from tilestream_client.errors import (
    ConnectionFailed,
    FieldError,
    InvalidConfig,
    TilestreamError,
    TlsFailed,
    from_rpc_error,
)
from tilestream_client.proxies import proxy_options
from tilestream_client.tls import Tls, TlsFileError
from tilestream_client.tls_failures import why_no_connection
from tilestream_client.token import checked_metadata, checked_token

DEFAULT_TARGET = "localhost:50051"
DEFAULT_TIMEOUT = 20.0  # seconds, for everything that is answered at once
_MAX_ANSWER_BYTES = 64 << 20  # a raw mask of 8192x4096 with a confidence map; gRPC's own limit is 4 MiB


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and how to talk to it.

    tls, credentials: at most one of them; neither = plain text. token: sent as ``authorization: Bearer``;
    goes with every call. metadata: further pairs for every call, such as ``traceparent``. own_connection:
    share no TCP connection with other clients of this process.
    """

    target: str = DEFAULT_TARGET
    credentials: grpc.ChannelCredentials | None = None
    token: str = field(default="", repr=False)
    metadata: Sequence[tuple[str, str]] = ()
    own_connection: bool = False
    tls: Tls | None = None

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
        return options + (self.tls.options() if self.tls else [])

    def channel(self) -> grpc.Channel:
        """A blocking channel. Raises InvalidConfig where the files of ``tls`` cannot be used."""
        credentials = self._chosen_credentials()
        if credentials is None:
            return grpc.insecure_channel(self.target, options=self.options())
        return grpc.secure_channel(self.target, credentials, options=self.options())

    def aio_channel(self) -> grpc.aio.Channel:
        """An asyncio channel. Raises as :meth:`channel` does."""
        credentials = self._chosen_credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options=self.options())
        return grpc.aio.secure_channel(self.target, credentials, options=self.options())

    def check(self) -> None:
        """Raises InvalidConfig where the files of ``tls`` cannot be used, before a channel is needed."""
        self._chosen_credentials()

    def failure(self, error: grpc.RpcError, *, started: bool) -> TilestreamError:
        """The exception for a call that failed, see from_rpc_error; may take seconds to find out why."""
        made = from_rpc_error(error, self.target, started=started)
        return self._explained(made) if self._may_be_tls(made) else made

    async def aio_failure(self, error: grpc.RpcError, *, started: bool) -> TilestreamError:
        """The same without holding up the event loop."""
        made = from_rpc_error(error, self.target, started=started)
        return await asyncio.to_thread(self._explained, made) if self._may_be_tls(made) else made

    def _chosen_credentials(self) -> grpc.ChannelCredentials | None:
        if self.tls is None:
            return self.credentials
        if self.credentials is not None:
            problem = "cannot be given beside credentials, which say how to connect, too"
            raise InvalidConfig(f"tls: {problem}", fields=[FieldError("tls", problem)])
        try:
            return self.tls.credentials()
        except TlsFileError as error:
            raise InvalidConfig(str(error), fields=[FieldError(error.option, error.problem)]) from error

    def _may_be_tls(self, error: TilestreamError) -> bool:
        """Whether no connection came about, for which nothing is known but what is known here."""
        return (
            isinstance(error, ConnectionFailed) and error.code == "UNAVAILABLE" and self.credentials is None
        )

    def _explained(self, error: TilestreamError) -> TilestreamError:
        try:
            context = self.tls.context() if self.tls else None
        except TlsFileError as wrong:  # since the client was made, such as a date that came
            why = str(wrong)
        else:
            name = self.tls.server_name if self.tls else ""
            shows = self.tls is not None and self.tls.certificate is not None
            why = why_no_connection(self.target, context, name, shows_certificate=shows)
        return TlsFailed(f"cannot connect to {self.target}: {why}", code=error.code) if why else error
