"""Commands that look at a running server: ``tilestream top`` and ``tilestream health``."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, NoReturn

import grpc
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

_DEADLINE = 5.0  # seconds for one answer
_PAGE = 1000

Server = Annotated[str, typer.Option("--server", envvar="TILESTREAM_SERVER", help="HOST:PORT of the server.")]


def health(server: Server = "localhost:50051") -> None:
    """Ask a server for its health: exit status 0 if it serves, 1 otherwise."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(server) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_DEADLINE
            )
        except grpc.RpcError as error:
            _fail("health", server, error)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    typer.echo(name)
    raise typer.Exit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


def top(
    server: Server = "localhost:50051",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and end.")] = False,
) -> None:
    """Show the live sessions of a server: frames/s, latency, drop rate, budget, agreement."""
    with grpc.insecure_channel(server) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        try:
            if as_json:
                typer.echo(json.dumps({"sessions": [session_row(s) for s in list_sessions(stub)]}))
            elif once:
                Console().print(screen(server, list_sessions(stub)))
            else:
                _watch(stub, server, interval)
        except grpc.RpcError as error:
            _fail("top", server, error)


def _watch(stub: Any, server: str, interval: float) -> None:
    try:
        with Live(screen(server, list_sessions(stub)), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(screen(server, list_sessions(stub)), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _fail(command: str, server: str, error: grpc.RpcError) -> NoReturn:
    typer.echo(f"tilestream {command}: {server}: {error.code().name}: {error.details()}", err=True)
    raise typer.Exit(1) from None


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
    """What is shown of a session; seconds, shares 0..1, None for what is not known."""
    return {
        "session": session.session_id,
        "camera": session.camera_id,
        "model": session.model,
        "fps": session.fps,
        "latency_p50": session.latency_p50_us / 1e6,
        "latency_p99": session.latency_p99_us / 1e6,
        "block_drop_rate": session.block_drop_rate,
        "block_budget": session.block_budget,
        "agreement": session.agreement if session.HasField("agreement") else None,
        "frames_ok": session.frames_ok,
        "frames_dropped": session.frames_dropped,
        "frames_invalid": session.frames_invalid,
    }


def screen(server: str, sessions: list[pb.Session]) -> Group:
    """The title and one row per session, the busiest first."""
    names = ("session", "camera", "model", "fps", "p50 ms", "p99 ms", "dropped blocks", "budget", "agreement")
    table = Table(*names, "ok", "dropped", "invalid")
    for session in sorted(sessions, key=lambda s: -s.fps):
        row = session_row(session)
        agreement = "" if row["agreement"] is None else f"{row['agreement']:.1%}"
        table.add_row(
            row["session"],
            Text(row["camera"]),  # the client's words: no markup
            row["model"],
            f"{row['fps']:.1f}",
            f"{row['latency_p50'] * 1e3:.0f}",
            f"{row['latency_p99'] * 1e3:.0f}",
            f"{row['block_drop_rate']:.0%}",
            f"{row['block_budget']:.0%}",
            agreement,
            *(str(row[f"frames_{status}"]) for status in ("ok", "dropped", "invalid")),
        )
    total = sum(session.fps for session in sessions)
    return Group(Text(f"{server}: {len(sessions)} sessions, {total:.1f} frames/s"), table)
