"""Commands that look at a running server: ``tilestream top``, ``info`` and ``health``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import grpc
import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tilestream.connection import (
    Authorities,
    Certificate,
    Connection,
    Key,
    Server,
    ServerName,
    Token,
    UseTls,
    tls_options,
)
from tilestream.proxies import WITHOUT
from tilestream.session_rows import age, session_row
from tilestream.terminal import console, printable, reader_is_gone, say
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

_DEADLINE = 5.0  # seconds for one answer
_PAGE = 1000

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and end.")]


def health(
    server: Server = "localhost:50051",
    tls: UseTls = False,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = "",
) -> None:
    """Ask a server for its health: exit status 0 if it serves."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    connection = Connection("health", server, tls_options(tls, ca, certificate, key, server_name))
    with connection.channel(WITHOUT) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_DEADLINE
            )
        except grpc.RpcError as error:
            connection.fail(error)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    say(name)
    raise typer.Exit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


def info(
    server: Server = "localhost:50051",
    as_json: AsJson = False,
    token: Token = "",
    tls: UseTls = False,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = "",
) -> None:
    """Show what a server is: version, device, models and gates."""
    connection = Connection("info", server, tls_options(tls, ca, certificate, key, server_name), token)
    with connection.channel() as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        try:
            answer = stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=_DEADLINE)
            models = stub.ListModels(pb.ListModelsRequest(), timeout=_DEADLINE).models
        except grpc.RpcError as error:
            connection.fail(error)
    facts = _facts(answer, models)
    if as_json:
        print(json.dumps(facts), flush=True)
        return
    if facts["up_seconds"] is not None:
        facts["up_seconds"] = f"{facts['up_seconds']:.0f}"
    for name, value in facts.items():
        if name != "models":
            say(f"{name.replace('_', ' ')}: {value}")
    for model in facts["models"]:
        say(f"model {model['name']}: {model['description']}")


def _facts(answer: pb.GetServerInfoResponse, models: Any) -> dict[str, Any]:
    """What is shown of a server; seconds are by its own clock."""
    return {
        "version": answer.version,
        "device": answer.device,
        "precision": answer.precision,
        "state": "draining" if answer.draining else "serving",
        "up_seconds": age(answer.start_time_us, answer.time_us),
        "sessions": answer.sessions,
        "max_sessions": answer.max_sessions,
        "default_model": answer.default_model,
        "models": [{"name": model.name, "description": model.description} for model in models],
    }


def top(
    server: Server = "localhost:50051",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    as_json: AsJson = False,
    token: Token = "",
    tls: UseTls = False,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = "",
) -> None:
    """Show the live sessions of a server, again and again."""
    connection = Connection("top", server, tls_options(tls, ca, certificate, key, server_name), token)
    with connection.channel() as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        try:
            if as_json:
                print(json.dumps({"sessions": list_sessions(stub)}), flush=True)
            elif once:
                _print_screen(server, list_sessions(stub))
            else:
                _watch(stub, server, interval)
        except grpc.RpcError as error:
            connection.fail(error)


def _watch(stub: Any, server: str, interval: float) -> None:
    """A screen that changes on a terminal; elsewhere one table after the other, while somebody reads them."""
    terminal = console()
    try:
        if not terminal.is_terminal:
            while not reader_is_gone():
                _print_screen(server, list_sessions(stub))
                time.sleep(interval)
            return
        first = screen(server, list_sessions(stub))
        with Live(first, console=terminal, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(screen(server, list_sessions(stub)), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_screen(server: str, sessions: list[dict[str, Any]]) -> None:
    output = console()
    output.print(screen(server, sessions, whole=not output.is_terminal))
    output.file.flush()


def list_sessions(stub: Any) -> list[dict[str, Any]]:
    """What is shown of all live sessions, page by page."""
    rows: list[dict[str, Any]] = []
    token = ""
    while True:
        request = pb.ListSessionsRequest(page_size=_PAGE, page_token=token)
        answer = stub.ListSessions(request, timeout=_DEADLINE)
        rows += (session_row(session, answer.time_us) for session in answer.sessions)
        token = answer.next_page_token
        if not token:
            return rows


# Of the table: field, heading, how it is written. Headings of two lines keep it within 80 columns.
_NUMBERS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("age", "age\ns", lambda value: f"{value:.0f}"),
    ("fps", "fps", lambda value: f"{value:.1f}"),
    ("latency_p50", "p50\nms", lambda value: f"{value * 1e3:.0f}"),
    ("latency_p99", "p99\nms", lambda value: f"{value * 1e3:.0f}"),
    ("block_drop_rate", "block\ndrop", lambda value: f"{value:.0%}"),
    ("block_budget", "bud-\nget", lambda value: f"{value:.0%}"),
    ("agreement", "agre-\nement", lambda value: f"{value:.1%}"),
    ("frames_ok", "frames\nok", str),
    ("frames_dropped", "drop-\nped", str),
    ("frames_invalid", "in-\nvalid", str),
)
_SAME = {"model": None, "state": "active"}  # shown where sessions differ from it, or in it
_OPTIONAL = {"agreement"}  # shown where it is known of any
_ROOMY = {"age"}  # shown where there is room for everything


def screen(server: str, sessions: list[dict[str, Any]], *, whole: bool = False) -> Group:
    """The title and one row per session, the busiest first. ``whole``: with everything, names uncut."""
    # Whole frames/s, so that rows do not change places all the time; those alike stay in the server's order.
    rows = sorted(sessions, key=lambda row: -round(row["fps"]))
    words = [
        "session",
        "camera",
        *(name for name, usual in _SAME.items() if whole or _differ(rows, name, usual)),
    ]
    numbers = [n for n in _NUMBERS if whole or _worth_showing(rows, n[0])]
    table = Table(box=None, padding=(0, 1, 0, 0), expand=not whole, header_style="bold")
    for name in words:
        share = 1 if name in ("camera", "model") and not whole else None  # of the room that the others leave
        table.add_column(f"\n{name}", no_wrap=True, ratio=share, min_width=2)
    for _, heading, _ in numbers:
        table.add_column(heading if "\n" in heading else f"\n{heading}", justify="right", no_wrap=True)
    for row in rows:
        cells = ("-" if row[name] is None else write(row[name]) for name, _, write in numbers)
        table.add_row(*(Text(printable(row[name])) for name in words), *cells)
    total = sum(row["fps"] for row in rows)
    model = f", {rows[0]['model']}" if rows and "model" not in words else ""
    title = f"{server}: {len(rows)} session{'s' * (len(rows) != 1)}, {total:.1f} frames/s{model}"
    return Group(Text(printable(title)), *([table] if rows else []))


def _worth_showing(rows: list[dict[str, Any]], name: str) -> bool:
    """Whether a number is worth a column where there is little room."""
    return name not in _ROOMY and (name not in _OPTIONAL or any(row[name] is not None for row in rows))


def _differ(rows: list[dict[str, Any]], name: str, usual: str | None) -> bool:
    """Whether what the rows have there is worth a column."""
    found = {row[name] for row in rows}
    return len(found) > 1 or (usual is not None and bool(found - {usual}))
