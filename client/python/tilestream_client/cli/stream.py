"""The ``stream`` command: frames to the server, results to files and a progress bar."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tilestream_client import jpeg
from tilestream_client.cli.files import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    check_places,
    check_suffix,
    write_text,
)
from tilestream_client.cli.interrupt import StopSwitch
from tilestream_client.cli.options import Connection
from tilestream_client.cli.order import Selected, as_shown
from tilestream_client.cli.records import JsonLines, ParquetTable, parquet
from tilestream_client.cli.rules_file import read_rules
from tilestream_client.cli.sinks import ContactSheet, MaskFolder, OverlayVideo, RegionMarks
from tilestream_client.cli.terminal import say
from tilestream_client.client import Client
from tilestream_client.config import FrameCodec, StreamOptions
from tilestream_client.errors import InvalidConfig, SourceError
from tilestream_client.info import Model
from tilestream_client.reconnect import DEFAULT_RECONNECT_TIMEOUT
from tilestream_client.result import Result
from tilestream_client.sources import FrameLike, VideoFile, input_files, open_source, paced, timed
from tilestream_client.stats import Tally
from tilestream_client.stream import Stream

AUTO = "auto"  # codec: as the source has it
_DEFAULT_FPS = 15.0  # of folders, which do not say
_REFRESH_SECONDS = 0.1

FILE_DELAY_MS = 500
"""How long results of a file may wait for its later frames: nobody looks at it live."""


def is_camera(source: str) -> bool:
    """A number that is no file."""
    return source.isdecimal() and not Path(source).exists()


class Sink(Protocol):
    """Something that results are written to."""

    def add(self, result: Result) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamJob:
    """What to stream and what to write. Paths are None where nothing shall be written."""

    source: str
    video: Path | None = None
    summary: Path | None = None
    masks: Path | None = None
    contact_sheet: Path | None = None
    jsonl: Path | None = None
    parquet: Path | None = None
    rules: Path | None = None  # is read
    limit: int | None = None
    fps: float | None = None
    realtime: bool = False
    show_bins: bool = False
    quality: int = jpeg.DEFAULT_QUALITY
    reconnect_timeout: float = DEFAULT_RECONNECT_TIMEOUT
    codec: str = AUTO
    options: StreamOptions = field(default_factory=StreamOptions)

    @property
    def live(self) -> bool:
        """Whether the source is a camera."""
        return is_camera(self.source)

    def open(self) -> Iterable[FrameLike]:
        """The source."""
        return open_source(int(self.source) if self.live else self.source)

    def as_sent(self, source: Iterable[FrameLike], offered: tuple[str, ...]) -> Iterable[FrameLike]:
        """The source as it is sent: its packets where ``codec`` and the server allow that, else pictures.

        Raises SourceError where ``codec`` cannot be had.
        """
        codec = getattr(source, "codec", None)
        if self.codec == FrameCodec.JPEG or (self.codec == AUTO and codec not in offered):
            return source
        if self.codec != AUTO and self.codec != codec:
            raise SourceError(f"{self.source} is not {self.codec}: --codec jpeg sends its pictures")
        if codec not in offered:
            raise SourceError(f"the server takes {', '.join(offered)}, not {codec}: use --codec jpeg")
        return source.packets(with_images=bool(self.video or self.contact_sheet))  # type: ignore[attr-defined]

    def check_outputs(self, source: Iterable[FrameLike]) -> None:
        """Raises WrongOutput for what cannot be written, or would overwrite what is read."""
        check_suffix("--out", self.video, VIDEO_SUFFIXES)
        check_suffix("--contact-sheet", self.contact_sheet, PICTURE_SUFFIXES)
        if self.parquet is not None:
            parquet()
        files = {
            "--out": self.video,
            "--json": self.summary,
            "--contact-sheet": self.contact_sheet,
            "--jsonl": self.jsonl,
            "--parquet": self.parquet,
        }
        inputs = [*input_files(source), *([self.rules] if self.rules is not None else [])]
        check_places(files, {"--masks": self.masks}, inputs)

    def rate(self, source: Iterable[FrameLike]) -> float:
        """Frames per second of the output."""
        return self.fps or getattr(source, "fps", None) or _DEFAULT_FPS

    def frames(self, source: Iterable[FrameLike], stop: StopSwitch) -> Iterator[FrameLike]:
        """What to send of the source."""
        frames = paced(source, self.rate(source)) if self.realtime else source
        if not (self.realtime or self.live):
            frames = timed(frames, self.rate(source))
        return stop.until_requested(itertools.islice(frames, self.limit))

    def sinks(self, source: Iterable[FrameLike]) -> list[Sink]:
        """What to write."""
        video = self.video
        regions = self.options.get("regions", ())
        rules = self.options.get("rules", ())
        wanted: list[Sink | None] = [
            OverlayVideo(
                video, self.rate(source), show_bins=self.show_bins, marks=RegionMarks(regions, rules)
            )
            if video
            else None,
            MaskFolder(self.masks) if self.masks else None,
            ContactSheet(self.contact_sheet, show_bins=self.show_bins) if self.contact_sheet else None,
            JsonLines(self.jsonl) if self.jsonl else None,
            ParquetTable(self.parquet) if self.parquet else None,
        ]
        return [sink for sink in wanted if sink is not None]


@dataclass(slots=True)
class _Progressed:
    """What is known so far, for the summary, whatever happens next."""

    tally: Tally = field(default_factory=Tally)
    started: float = 0.0
    seconds: float = 0.0
    reconnects: int = 0
    facts: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(("model", "device", "server_version"), "")
    )
    size: tuple[int, int] = (0, 0)

    def add(self, result: Result) -> None:
        self.tally.add(result)
        self.seconds = time.monotonic() - self.started
        self.size = result.size or self.size

    def summary(self) -> dict[str, Any]:
        return {
            **self.tally.report(self.seconds),
            "block_drop_rate": round(self.tally.block_drop_rate, 4),
            "agreement": None if self.tally.agreement is None else round(self.tally.agreement, 4),
            "key_frames": self.tally.key_frames,
            "reconnects": self.reconnects,
            **self.facts,
            "width": self.size[0],
            "height": self.size[1],
        }


def run(job: StreamJob, connection: Connection) -> None:
    """Stream it all. The summary is written even where the stream fails or is interrupted.

    Raises TilestreamError, and typer.Exit(1) where frames were left unanswered by a second Ctrl-C.
    """
    source = job.open()
    job.check_outputs(source)
    progressed = _Progressed(started=time.monotonic())
    with StopSwitch() as stop, connection.client() as client:
        try:
            _stream(job, client, source, stop, progressed)
        except KeyboardInterrupt:
            say(f"stopped with {progressed.tally.unanswered} frames unanswered", error=True)
            raise typer.Exit(1) from None
        finally:
            if job.summary is not None:
                write_text(job.summary, json.dumps(progressed.summary(), indent=2) + "\n")
    _report(job, source, progressed)


def _stream(
    job: StreamJob, client: Client, source: Iterable[FrameLike], stop: StopSwitch, progressed: _Progressed
) -> None:
    job = _with_rules(job, client)
    info = client.info()
    progressed.facts.update(device=info.device, server_version=info.version)
    sent = job.as_sent(source, info.frame_codecs)
    stream = client.stream(
        Selected(sent, job.frames(sent, stop)),
        quality=job.quality,
        reconnect_timeout=job.reconnect_timeout,
        **job.options,
    )
    try:
        progressed.facts["model"] = stream.session.model.name
        progressed.started = time.monotonic()
        with ExitStack() as stack, _bar(job, source) as show:
            sinks = [stack.enter_context(closing(sink)) for sink in job.sinks(source)]
            for result in as_shown(counted(stream, progressed, show), sent):
                for sink in sinks:
                    sink.add(result)
    finally:
        progressed.tally.sent = stream.frames_sent
        progressed.reconnects = stream.reconnects
        stream.close()


def _with_rules(job: StreamJob, client: Client) -> StreamJob:
    """Regions and rules of the job's file in its options."""
    if job.rules is None:
        return job
    wanted = job.options.get("model")

    def model() -> Model:
        models = client.models()
        found = next(
            (each for each in models if each.name == wanted or (not wanted and each.is_default)), None
        )
        if found is None:
            raise InvalidConfig(f"the server has no model {wanted!r}: {', '.join(m.name for m in models)}")
        return found

    regions, rules = read_rules(job.rules, model)
    return replace(job, options={**job.options, "regions": regions, "rules": rules})


def counted(stream: Stream, progressed: _Progressed, show: Callable[[_Progressed], None]) -> Iterator[Result]:
    """The results, each told of as it comes."""
    for result in stream:
        progressed.add(result)
        show(progressed)
        yield result


@contextmanager
def _bar(job: StreamJob, source: Iterable[FrameLike]) -> Iterator[Any]:
    """A progress bar; yields the function that brings it up to date."""
    length = getattr(source, "length", None)
    total = min(length, job.limit) if length and job.limit else job.limit or length
    text = TextColumn("{task.fields[note]}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), text)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("frames", total=total, note="")
        last = [0.0]

        def show(progressed: _Progressed) -> None:
            progress.advance(task)
            if time.monotonic() - last[0] > _REFRESH_SECONDS:
                last[0] = time.monotonic()
                _note(progress, task, progressed)

        yield show


def _note(progress: Progress, task: TaskID, progressed: _Progressed) -> None:
    progress.update(task, note=_in_short(progressed))


def _in_short(progressed: _Progressed) -> str:
    tally, report = progressed.tally, progressed.tally.report(progressed.seconds)
    p50, p99 = report["latency_ms"]["p50"], report["latency_ms"]["p99"]
    latency = "" if p50 is None else f"  p50 {p50:.0f} ms  p99 {p99:.0f} ms"
    return f"{report['fps']:.1f} frames/s{latency}  {tally.block_drop_rate:.0%} of blocks reused"


def _report(job: StreamJob, source: Iterable[FrameLike], progressed: _Progressed) -> None:
    tally = progressed.tally
    line = f"{tally.ok} of {tally.sent} frames segmented"
    notes = ((tally.dropped, "dropped"), (tally.invalid, "invalid"), (progressed.reconnects, "reconnects"))
    for count, what in notes:
        line += f", {count} {what}" if count else ""
    say(f"{line}: {_in_short(progressed)}")
    if isinstance(source, VideoFile) and source.damaged:
        say(f"{source.damaged} damaged packets of {source.path} were skipped", error=True)
    for path in (job.video, job.masks, job.contact_sheet, job.jsonl, job.parquet, job.summary):
        if path is not None:
            say(f"  {path}")
