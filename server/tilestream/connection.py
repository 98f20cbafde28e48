"""How the commands that look at a running server reach it: their options, the channel, and how they fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import grpc
import typer

from tilestream.proxies import proxy_options, proxy_variable
from tilestream.terminal import say
from tilestream.tls.client import Tls, TlsFileError
from tilestream.tls.client_failures import why_no_connection

Server = Annotated[
    str,
    typer.Option("--server", envvar="TILESTREAM_SERVER", help="HOST:PORT of the server, or unix:/path."),
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="TILESTREAM_TOKEN", help="Bearer token to show the server.", show_default=False
    ),
]
UseTls = Annotated[
    bool, typer.Option("--tls", envvar="TILESTREAM_TLS", help="Encrypt; implied by the options that follow.")
]
Authorities = Annotated[
    Path | None,
    typer.Option(
        "--ca", envvar="TILESTREAM_CA", help="PEM file of the authorities to trust; default the system's."
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        envvar="TILESTREAM_CERTIFICATE",
        help="PEM file of the certificate to show the server.",
    ),
]
Key = Annotated[
    Path | None, typer.Option("--key", envvar="TILESTREAM_KEY", help="PEM file of the certificate's key.")
]
ServerName = Annotated[
    str,
    typer.Option(
        "--server-name",
        envvar="TILESTREAM_SERVER_NAME",
        help="Name that the server's certificate has to have; default the one in --server.",
    ),
]


def tls_options(
    use: bool, ca: Path | None, certificate: Path | None, key: Path | None, server_name: str
) -> Tls | None:
    """What the options say; None: plain text."""
    return Tls(ca, certificate, key, server_name) if use or ca or certificate or key or server_name else None


class _Bearer(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Shows a token with every call."""

    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(_Details(details.method, details.timeout, self._metadata), request)


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]
    credentials: None = None
    wait_for_ready: None = None
    compression: None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """Of a command to a server. ``tls``: None = plain text. ``token``: shown with every call, if any."""

    command: str
    server: str
    tls: Tls | None
    token: str = field(default="", repr=False)

    def channel(self, *options: tuple[str, int]) -> grpc.Channel:
        """A channel, if need be through the proxy; ends the command where files are unusable."""
        chosen = list(options) or proxy_options(self.server)
        if self.tls is None:
            channel = grpc.insecure_channel(self.server, options=chosen)
        else:
            try:
                credentials = self.tls.credentials()
            except TlsFileError as error:
                self._end(str(error), 2)
            channel = grpc.secure_channel(self.server, credentials, options=chosen + self.tls.options())
        return grpc.intercept_channel(channel, _Bearer(self.token)) if self.token else channel

    def fail(self, error: grpc.RpcError) -> NoReturn:
        """End the command that a call failed for, with one line on standard error."""
        why = self._why() if error.code() is grpc.StatusCode.UNAVAILABLE else ""
        variable = "" if self.command == "health" else proxy_variable(self.server)
        through = f" (through the proxy of the environment's {variable}; no_proxy exempts hosts)"
        told = why or f"{error.code().name}: {error.details()}{through if variable else ''}"
        self._end(f"{self.server}: {told}", 1)

    def _why(self) -> str:
        if self.tls is None:
            return why_no_connection(self.server, None)
        try:
            context = self.tls.context()
        except TlsFileError as error:  # such as a date that came
            return str(error)
        shows = self.tls.certificate is not None
        return why_no_connection(self.server, context, self.tls.server_name, shows_certificate=shows)

    def _end(self, text: str, status: int) -> NoReturn:
        say(f"tilestream {self.command}: {text}", error=True)
        raise typer.Exit(status) from None
