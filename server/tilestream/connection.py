"""How the commands that look at a running server reach it: their options, the channel, and how they fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import grpc
import typer

from tilestream.tls.client import Tls, TlsFileError
from tilestream.tls.client_failures import why_no_connection

Server = Annotated[str, typer.Option("--server", envvar="TILESTREAM_SERVER", help="HOST:PORT of the server.")]
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


@dataclass(frozen=True, slots=True)
class Connection:
    """Of a command to a server. ``tls``: None = plain text."""

    command: str
    server: str
    tls: Tls | None

    def channel(self) -> grpc.Channel:
        """A channel; ends the command where files cannot be used."""
        if self.tls is None:
            return grpc.insecure_channel(self.server)
        try:
            credentials = self.tls.credentials()
        except TlsFileError as error:
            self._end(str(error), 2)
        return grpc.secure_channel(self.server, credentials, options=self.tls.options())

    def fail(self, error: grpc.RpcError) -> NoReturn:
        """End the command that a call failed for, with one line on standard error."""
        why = self._why() if error.code() is grpc.StatusCode.UNAVAILABLE else ""
        self._end(f"{self.server}: {why or f'{error.code().name}: {error.details()}'}", 1)

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
        typer.echo(f"tilestream {self.command}: {text}", err=True)
        raise typer.Exit(status) from None
