"""The ``load`` command: the load generator with a display and a report."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tilestream_client.cli.files import check_places, write_text
from tilestream_client.cli.options import Connection
from tilestream_client.cli.terminal import console, say
from tilestream_client.config import QueuePolicy
from tilestream_client.load import LoadPlan, LoadReport, pattern_clip, run_load, video_clip
from tilestream_client.reconnect import DEFAULT_RECONNECT_TIMEOUT
from tilestream_client.sources import input_files, open_source

_PATTERN_SIZE = (640, 480)
_REFRESH_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadJob:
    """What to send and what to write; see LoadPlan."""

    sessions: int
    fps: float
    seconds: float
    video: Path | None = None
    size: tuple[int, int] | None = None
    backlog: int = 4
    late_after: float = 0.1
    warmup: float = 0.0
    reconnect_timeout: float = DEFAULT_RECONNECT_TIMEOUT
    summary: Path | None = None
    model: str = ""
    policy: QueuePolicy = QueuePolicy.DROP_OLDEST
    frames_in_flight: int = 0
    block_budget: float = 0.0

    def plan(self) -> LoadPlan:
        """The plan; reads the video. Raises SourceError."""
        clip = video_clip(self.video, self.size) if self.video else pattern_clip(self.size or _PATTERN_SIZE)
        return LoadPlan(
            clip=clip,
            sessions=self.sessions,
            fps=self.fps,
            seconds=self.seconds,
            backlog=self.backlog,
            late_after=self.late_after,
            warmup=self.warmup,
            reconnect_timeout=self.reconnect_timeout,
            model=self.model,
            policy=self.policy,
            frames_in_flight=self.frames_in_flight,
            block_budget=self.block_budget,
        )


def run(job: LoadJob, connection: Connection) -> None:
    """Load the server and report. Raises typer.Exit(1) where sessions failed."""
    check_places(
        {"--json": job.summary}, {}, [] if job.video is None else input_files(open_source(job.video))
    )
    with connection.client() as client:
        client.info()  # a server that is not there is told at once and once
    report = asyncio.run(_run(job, job.plan(), connection))
    if job.summary is not None:
        write_text(job.summary, json.dumps(report.summary(), indent=2) + "\n")
    _show(report)
    if report.errors:
        first = sorted(set(report.errors))[0]
        say(f"tilestream-client: {len(report.errors)} sessions failed: {first}", error=True)
        raise typer.Exit(1)


async def _run(job: LoadJob, plan: LoadPlan, connection: Connection) -> LoadReport:
    report, stop = LoadReport(job.sessions), asyncio.Event()
    loop = asyncio.get_running_loop()
    with _signals(loop, stop):
        display = asyncio.create_task(_display(job, report))
        try:
            return await run_load(connection.server, plan, report=report, stop=stop, **connection.keywords())
        finally:
            display.cancel()
            await asyncio.gather(display, return_exceptions=True)


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the load early and still report, where signals can be had."""
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, stop.set)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        numbers = ()
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _display(job: LoadJob, report: LoadReport) -> None:
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("load", total=job.seconds, note="")
        start = time.monotonic()
        while True:
            passed = time.monotonic() - start
            tally = report.tally
            rate = tally.ok / passed if passed else 0.0
            note = (
                f"{rate:.1f} frames/s  {tally.dropped} dropped  {report.skipped} skipped  {report.late} late"
            )
            progress.update(task, completed=min(passed, job.seconds), note=note)
            await asyncio.sleep(_REFRESH_SECONDS)


def _show(report: LoadReport) -> None:
    tally = report.tally
    output = console()
    table = Table("", "frames", title=f"{report.sessions} sessions, {report.seconds:.1f} s", box=None)
    rows = {
        "due": report.due,
        "skipped, not sent": report.skipped,
        "sent": tally.sent,
        "answered with a mask": tally.ok,
        "of these late": report.late,
        "dropped by the server": tally.dropped,
        "invalid": tally.invalid,
        "unanswered": tally.unanswered,
        "reconnects": report.reconnects,
    }
    for name, count in rows.items():
        table.add_row(name, str(count))
    summary = report.summary()
    table.add_row("frames/s", f"{summary['fps']:.1f}")
    for name, value in summary["latency_ms"].items():
        table.add_row(f"latency {name}, ms", "" if value is None else f"{value:.1f}")
    table.add_row("block drop rate", f"{summary['block_drop_rate']:.1%}")
    table.add_row("fairness (Jain)", f"{summary['fairness_jain']:.3f}")
    output.print(table)
