"""The commands and their options; what they do is in the modules beside."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tilestream_client import jpeg
from tilestream_client._version import __version__
from tilestream_client.cli import load as load_command
from tilestream_client.cli import stream as stream_command
from tilestream_client.cli import tables
from tilestream_client.cli.options import (
    AsJson,
    Connection,
    ReconnectTimeout,
    connects,
    one_line_failures,
    parse_size,
)
from tilestream_client.cli.terminal import prepare_output, say
from tilestream_client.config import FrameCodec, MaskEncoding, QueuePolicy
from tilestream_client.outputs import Outputs
from tilestream_client.reconnect import DEFAULT_RECONNECT_TIMEOUT

app = typer.Typer(
    help="Send video to a tilestream server, get label masks back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help: nothing is cut at 80 columns, and every output can show it
)


class Codec(StrEnum):
    """What --codec takes."""

    AUTO = stream_command.AUTO
    JPEG = FrameCodec.JPEG
    H264 = FrameCodec.H264
    H265 = FrameCodec.H265


def _version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
@connects
def stream(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Video, image, folder, URL (RTSP, MJPEG over HTTP) or a camera's index."
        ),
    ],
    connection: Connection,
    out: Annotated[Path | None, typer.Option(help="Write a video of the masks over the frames.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write a summary.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Write a palette PNG per frame into this folder.")
    ] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write a picture of a few frames and overlays.")
    ] = None,
    jsonl: Annotated[
        Path | None, typer.Option(help="Write a line of JSON per frame, as results come.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Write a row per frame; needs tilestream-client[parquet].")
    ] = None,
    areas: Annotated[bool, typer.Option("--areas", help="Ask for the area of every class.")] = False,
    instances: Annotated[
        bool, typer.Option("--instances", help="Ask for connected pixels of a class: box, area, centroid.")
    ] = False,
    min_instance_pixels: Annotated[
        int, typer.Option(min=0, help="Smallest instance, pixels; 0: as the server likes (64).")
    ] = 0,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Ask for the outlines of instances; implies --instances.")
    ] = False,
    polygon_tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="Pixels that they may be off; 0: as the server likes (1).")
    ] = 0.0,
    coco_rle: Annotated[
        bool, typer.Option("--coco-rle", help="Ask for COCO run lengths of instances, else of classes.")
    ] = False,
    no_mask: Annotated[bool, typer.Option("--no-mask", help="Have no masks sent.")] = False,
    rules: Annotated[
        Path | None, typer.Option(help="JSON file of regions, and of rules that make events.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model name; empty: the server's default.")] = "",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size of the masks.")] = None,
    compute_size: Annotated[str | None, typer.Option(metavar="WxH", help="Size to compute at.")] = None,
    encoding: Annotated[MaskEncoding, typer.Option(help="How masks travel.")] = MaskEncoding.PNG,
    budget: Annotated[
        float, typer.Option(min=0, max=1, help="Share of block units to compute; 0: automatic.")
    ] = 0.0,
    policy: Annotated[QueuePolicy, typer.Option(help="What the server does when full.")] = QueuePolicy.WAIT,
    frames_in_flight: Annotated[
        int, typer.Option(min=0, help="Frames under way; 0: as the server likes.")
    ] = 0,
    max_delay: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="MS",
            help="How long results may wait for later frames, milliseconds; 0: not at all, as of cameras.",
            show_default=str(stream_command.FILE_DELAY_MS),
        ),
    ] = None,
    show_bins: Annotated[
        bool, typer.Option("--show-bins", help="Tint what was computed, in --out and --contact-sheet.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Frame rate of the output and of --realtime.")
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Send at the frame rate, not faster.")] = False,
    codec: Annotated[
        Codec,
        typer.Option(help="How frames travel; auto: a video's own packets where the server takes them."),
    ] = Codec.AUTO,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs that are made.")] = (
        jpeg.DEFAULT_QUALITY
    ),
    reconnect_timeout: ReconnectTimeout = DEFAULT_RECONNECT_TIMEOUT,
) -> None:
    """Segment a video, a folder of images or a camera."""
    if show_bins and not (out or contact_sheet):
        raise typer.BadParameter("--show-bins draws into --out or --contact-sheet: give one of them")
    if max_delay is None:
        max_delay = 0 if stream_command.is_camera(source) else stream_command.FILE_DELAY_MS
    if no_mask and masks:
        raise typer.BadParameter("--masks writes what --no-mask has the server leave out: give one of them")
    job = stream_command.StreamJob(
        source=source,
        video=out,
        summary=json_out,
        masks=masks,
        contact_sheet=contact_sheet,
        jsonl=jsonl,
        parquet=parquet,
        rules=rules,
        limit=limit,
        fps=fps,
        realtime=realtime,
        show_bins=show_bins,
        quality=quality,
        reconnect_timeout=reconnect_timeout,
        codec=codec.value,
        options={
            "model": model,
            "mask_encoding": encoding,
            "queue_policy": policy,
            "frames_in_flight": frames_in_flight,
            "block_budget": budget,
            "max_delay_ms": max_delay,
            "include_bins": show_bins,
            "output_size": parse_size(size) if size else None,
            "compute_size": parse_size(compute_size) if compute_size else None,
            "outputs": Outputs(
                no_mask=no_mask,
                areas=areas,
                instances=instances or polygons,
                min_instance_pixels=min_instance_pixels,
                polygons=polygons,
                polygon_tolerance=polygon_tolerance,
                coco_rle=coco_rle,
            ),
        },
    )
    with one_line_failures():
        stream_command.run(job, connection)


@app.command()
@connects
def load(
    connection: Connection,
    sessions: Annotated[int, typer.Option(min=1, help="How many cameras.")] = 1,
    fps: Annotated[float, typer.Option(min=0.01, help="Frames per second of each camera.")] = 15.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10.0,
    video: Annotated[
        Path | None, typer.Option(help="Send this video or folder; without: a moving pattern.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the frames; default the video's, or 640x480.")
    ] = None,
    policy: Annotated[QueuePolicy, typer.Option(help="What the server does when full.")] = (
        QueuePolicy.DROP_OLDEST
    ),
    model: Annotated[str, typer.Option(help="Model name; empty: the server's default.")] = "",
    budget: Annotated[
        float, typer.Option(min=0, max=1, help="Share of block units to compute; 0: automatic.")
    ] = 0.0,
    frames_in_flight: Annotated[
        int, typer.Option(min=0, help="Frames under way; 0: as the server likes.")
    ] = 0,
    backlog: Annotated[int, typer.Option(min=1, help="Frames that may wait here to be sent.")] = 4,
    warmup: Annotated[
        float, typer.Option(min=0, help="Of --seconds, the first that are sent but not counted.")
    ] = 0.0,
    reconnect_timeout: ReconnectTimeout = DEFAULT_RECONNECT_TIMEOUT,
    late_ms: Annotated[float, typer.Option(min=0, help="Answers later than this count as late.")] = 100.0,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the report.")] = None,
) -> None:
    """Load a server with cameras that send by the clock, and measure."""
    job = load_command.LoadJob(
        sessions=sessions,
        fps=fps,
        seconds=seconds,
        video=video,
        size=parse_size(size) if size else None,
        backlog=backlog,
        late_after=late_ms / 1e3,
        warmup=warmup,
        reconnect_timeout=reconnect_timeout,
        summary=json_out,
        model=model,
        policy=policy,
        frames_in_flight=frames_in_flight,
        block_budget=budget,
    )
    with one_line_failures():
        load_command.run(job, connection)


@app.command()
@connects
def models(connection: Connection, as_json: AsJson = False) -> None:
    """List the models of a server and their classes."""
    with one_line_failures(), connection.client() as client:
        tables.show_models(client.models(), as_json=as_json)


@app.command()
@connects
def info(connection: Connection, as_json: AsJson = False) -> None:
    """Show what a server is and what it offers."""
    with one_line_failures(), connection.client() as client:
        tables.show_info(client.info(), as_json=as_json)


@app.command()
@connects
def sessions(connection: Connection, as_json: AsJson = False) -> None:
    """List the live sessions of a server."""
    with one_line_failures(), connection.client() as client:
        tables.show_sessions(client.sessions(), as_json=as_json)


def main() -> None:
    """Entry point of the command."""
    prepare_output()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(1)
