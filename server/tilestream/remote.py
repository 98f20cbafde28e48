"""Commands that look at a running server: ``tilestream top`` and ``tilestream health``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import grpc
import typer
from rich.console import Console, Group
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
    UseTls,
    tls_options,
)
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

_DEADLINE = 5.0  # seconds for one answer
_PAGE = 1000


def health(
    server: Server = "localhost:50051",
    tls: UseTls = False,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = "",
) -> None:
    """Ask a server for its health: exit status 0 if it serves, 1 otherwise."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    connection = Connection("health", server, tls_options(tls, ca, certificate, key, server_name))
    with connection.channel() as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_DEADLINE
            )
        except grpc.RpcError as error:
            connection.fail(error)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    typer.echo(name)
    raise typer.Exit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


def top(
    server: Server = "localhost:50051",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and end.")] = False,
    tls: UseTls = False,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    server_name: ServerName = "",
) -> None:
    """Show the live sessions of a server: frames/s, latency, drop rate, budget, agreement."""
    connection = Connection("top", server, tls_options(tls, ca, certificate, key, server_name))
    with connection.channel() as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        try:
            if as_json:
                typer.echo(json.dumps({"sessions": [session_row(s) for s in list_sessions(stub)]}))
            elif once:
                Console().print(screen(server, list_sessions(stub)))
            else:
                _watch(stub, server, interval)
        except grpc.RpcError as error:
            connection.fail(error)


def _watch(stub: Any, server: str, interval: float) -> None:
    try:
        with Live(screen(server, list_sessions(stub)), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(screen(server, list_sessions(stub)), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def list_sessions(stub: Any) -> list[pb.Session]:
    """All live sessions, page by page."""
    sessions: list[pb.Session] = []
    token = ""
    while True:
        request = pb.ListSessionsRequest(page_size=_PAGE, page_token=token)
        answer = stub.ListSessions(request, timeout=_DEADLINE)
        sessions += answer.sessions
        token = answer.next_page_token
        if not token:
            return sessions


def session_row(session: pb.Session) -> dict[str, Any]:
    """What is shown of a session; seconds, shares 0..1, None for what is not known (yet)."""
    state = pb.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()
    computed = session.frames_ok > 0
    return {
        "session": session.session_id,
        "camera": session.camera_id,
        "model": session.model,
        "state": state,
        "fps": session.fps,
        "latency_p50": session.latency_p50_us / 1e6 if session.latency_p50_us else None,
        "latency_p99": session.latency_p99_us / 1e6 if session.latency_p99_us else None,
        "block_drop_rate": session.block_drop_rate if computed else None,
        "block_budget": session.block_budget if computed else None,
        "agreement": session.agreement if session.HasField("agreement") else None,
        "frames_ok": session.frames_ok,
        "frames_dropped": session.frames_dropped,
        "frames_invalid": session.frames_invalid,
    }


# Of the table: field, heading, how it is written. Headings of two lines keep it within 80 columns.
_NUMBERS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
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


def screen(server: str, sessions: list[pb.Session]) -> Group:
    """The title and one row per session, the busiest first."""
    # Whole frames/s, so that rows do not change places all the time; those alike stay in the server's order.
    rows = [session_row(session) for session in sorted(sessions, key=lambda s: -round(s.fps))]
    words = ["session", "camera", *(name for name, usual in _SAME.items() if _differ(rows, name, usual))]
    numbers = [n for n in _NUMBERS if n[0] not in _OPTIONAL or any(row[n[0]] is not None for row in rows)]
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="bold")
    for name in words:
        share = 1 if name in ("camera", "model") else None  # of the room that the others leave
        table.add_column(f"\n{name}", no_wrap=True, ratio=share, min_width=2)
    for _, heading, _ in numbers:
        table.add_column(heading if "\n" in heading else f"\n{heading}", justify="right", no_wrap=True)
    for row in rows:
        cells = ("-" if row[name] is None else write(row[name]) for name, _, write in numbers)
        table.add_row(*(Text(row[name]) for name in words), *cells)  # the client's words: no markup
    total = sum(session.fps for session in sessions)
    model = f", {rows[0]['model']}" if rows and "model" not in words else ""
    title = f"{server}: {len(sessions)} session{'s' * (len(sessions) != 1)}, {total:.1f} frames/s{model}"
    return Group(Text(title), *([table] if rows else []))


def _differ(rows: list[dict[str, Any]], name: str, usual: str | None) -> bool:
    """Whether what the rows have there is worth a column."""
    found = {row[name] for row in rows}
    return len(found) > 1 or (usual is not None and bool(found - {usual}))
