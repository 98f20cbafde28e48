"""Options that several commands share, and how commands fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import grpc
import typer

from tilestream_client.channel import DEFAULT_TARGET
from tilestream_client.cli.files import WrongOutput
from tilestream_client.cli.terminal import say
from tilestream_client.client import Client
from tilestream_client.errors import TilestreamError
from tilestream_client.libav import libav_failures

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
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt; trust the system's certificate authorities.")]

DEFAULT_SERVER = DEFAULT_TARGET


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the server."""

    target: str
    token: str = ""
    tls: bool = False

    def keywords(self) -> dict[str, Any]:
        """The arguments of Client and AsyncClient besides the target."""
        return {"token": self.token, "credentials": grpc.ssl_channel_credentials() if self.tls else None}

    def client(self) -> Client:
        """A blocking client."""
        return Client(self.target, **self.keywords())


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
