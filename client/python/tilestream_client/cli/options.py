"""Options that several commands share, and how commands fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tilestream_client.channel import DEFAULT_TARGET
from tilestream_client.cli.files import WrongOutput
from tilestream_client.cli.terminal import say
from tilestream_client.client import Client
from tilestream_client.errors import TilestreamError
from tilestream_client.libav import libav_failures
from tilestream_client.tls import Tls

Server = Annotated[
    str,
    typer.Option("--server", envvar="TILESTREAM_SERVER", help="HOST:PORT of the server, or unix:/path."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Token = Annotated[
    str, typer.Option(envvar="TILESTREAM_TOKEN", help="Bearer token to show the server.", show_default=False)
]
ReconnectTimeout = Annotated[
    float,
    typer.Option("--reconnect-timeout", min=0, help="Seconds to try to come back after a lost stream."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach the server; each field is an option of every command, see :func:`connects`."""

    server: Server = DEFAULT_TARGET
    token: Token = ""
    tls: Annotated[
        bool,
        typer.Option("--tls", envvar="TILESTREAM_TLS", help="Encrypt; implied by the options that follow."),
    ] = False
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="TILESTREAM_CA", help="PEM file of the authorities to trust; default the system's."
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(envvar="TILESTREAM_CERTIFICATE", help="PEM file of the certificate to show the server."),
    ] = None
    key: Annotated[
        Path | None, typer.Option(envvar="TILESTREAM_KEY", help="PEM file of the certificate's key.")
    ] = None
    server_name: Annotated[
        str,
        typer.Option(
            envvar="TILESTREAM_SERVER_NAME",
            help="Name that the server's certificate has to have; default the one in --server.",
        ),
    ] = ""

    def keywords(self) -> dict[str, Any]:
        """The arguments of Client and AsyncClient besides the target."""
        details = (self.ca, self.certificate, self.key, self.server_name)
        return {"token": self.token, "tls": Tls(*details) if self.tls or any(details) else False}

    def client(self) -> Client:
        """A blocking client."""
        return Client(self.server, **self.keywords())


def connects(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a Connection, which it takes as its parameter ``connection``."""
    types, own = get_type_hints(Connection, include_extras=True), signature(command, eval_str=True)

    @wraps(command)
    def run(**given: Any) -> None:
        connection = Connection(**{field.name: given.pop(field.name) for field in fields(Connection)})
        command(connection=connection, **given)

    parameters = [p for p in own.parameters.values() if p.name != "connection"]
    for field in fields(Connection):
        kind, default = types[field.name], field.default
        parameters.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def parse_size(text: str) -> tuple[int, int]:
    """Turn "640x480" into (640, 480). Raises typer.BadParameter, which is a usage error."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise typer.BadParameter(f"{text!r} is not WIDTHxHEIGHT, such as 640x480")
    return int(width), int(height)


@contextmanager
def one_line_failures() -> Iterator[None]:
    """What goes wrong is one line on standard error and exit code 1 (wrong usage: 2), never a traceback."""
    try:
        yield
    except libav_failures(TilestreamError, OSError) as error:
        say(f"tilestream-client: {error}", error=True)
        raise typer.Exit(2 if isinstance(error, WrongOutput) else 1) from error
