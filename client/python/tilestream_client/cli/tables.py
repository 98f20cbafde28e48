"""What a server tells, as tables or as JSON. Names in them are text, whatever they look like."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from tilestream_client.cli.terminal import console, printable, say
from tilestream_client.info import Model, ServerInfo, SessionInfo

_GAP = 2  # columns between two columns
_PLAIN: dict[str, Any] = {
    "box": None,
    "padding": (0, _GAP, 0, 0),
    "pad_edge": False,
    "header_style": "bold",
}
_CUT_TO = 20  # columns of a name, before other columns are left out for it


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the list of sessions. ``rank``: on a narrow terminal those with the highest go first."""

    heading: str
    rank: int = 0
    right: bool = True


_SESSION = (
    Column("session", right=False),
    Column("camera", right=False),
    Column("model", 8, right=False),
    Column("state", 1, right=False),
    Column("age", 4),
    Column("size", 9),
    Column("fps"),
    Column("p50 ms", 7),
    Column("p99 ms", 2),
    Column("reused", 5),
    Column("budget", 6),
    Column("ok"),
    Column("dropped", 2),
    Column("invalid", 3),
)
_CUT = 1  # the column whose names are cut where all else is too little


def show_models(models: Iterable[Model], *, as_json: bool = False) -> None:
    """One row per model; classes with a patch of their colour."""
    if as_json:
        _print_json({"models": [asdict(model) for model in models]})
        return
    table = Table("model", "parameters", "mIoU", "classes", **_PLAIN)
    for model in models:
        name = f"{model.name} (default)" if model.is_default else model.name
        classes = Text()
        for item in model.classes:
            classes.append("■ ", style="rgb({},{},{})".format(*item.color))
            classes.append(f"{printable(item.name)}  ")
        miou = "" if model.reference_miou is None else f"{model.reference_miou:.3f}"
        table.add_row(Text(printable(name)), f"{model.parameters / 1e6:.1f} M", miou, classes)
        table.add_row("", "", "", Text(printable(model.description)))
    console().print(table)


def show_info(info: ServerInfo, *, as_json: bool = False) -> None:
    """One row per fact."""
    if as_json:
        _print_json({**asdict(info), "uptime": info.uptime})
        return
    table = Table(show_header=False, **_PLAIN)
    limits = info.limits
    facts = {
        "version": info.version,
        "device": f"{info.device}, {info.precision}",
        "state": "draining" if info.draining else "serving",
        "up for": "unknown" if info.uptime is None else _duration(info.uptime),
        "sessions": f"{info.sessions} of {info.max_sessions}",
        "default model": info.default_model,
        "mask encodings": ", ".join(info.mask_encodings),
        "frame codecs": ", ".join(info.frame_codecs),
        "queue policies": ", ".join(info.queue_policies),
        "largest frame": f"{limits.max_frame_bytes} bytes, {limits.max_frame_pixels} pixels, "
        f"{limits.max_frame_side} pixels a side",
        "computes at": f"{limits.max_compute_pixels} pixels at most",
        "frames in flight": f"{limits.max_frames_in_flight} at most",
        "idle time-out": _limit(limits.idle_timeout),
        "longest session": _limit(limits.max_session_age),
    }
    for name, value in facts.items():
        table.add_row(name, Text(printable(value)))
    console().print(table)


def show_sessions(sessions: Iterable[SessionInfo], *, as_json: bool = False) -> None:
    """One row per live session: with everything where there is room, as in a pipe."""
    if as_json:
        _print_json({"sessions": [asdict(session) for session in sessions]})
        return
    rows = [tuple(map(printable, _session_cells(session))) for session in sessions]
    output = console()
    widths = [
        max(len(column.heading), *(Text(row[index]).cell_len for row in rows), 0)
        for index, column in enumerate(_SESSION)
    ]
    whole, widths[_CUT] = widths[_CUT], min(widths[_CUT], _CUT_TO)
    shown = _columns_that_fit(widths, output.width)
    room_for_name = widths[_CUT] + output.width - _total(widths, shown)
    table = Table(**_PLAIN)
    for index in shown:
        justify: Any = "right" if _SESSION[index].right else "left"
        table.add_column(_SESSION[index].heading, justify=justify, no_wrap=True)
    for row in rows:
        cells = [Text(row[index]) for index in shown]
        if room_for_name < whole:
            cells[shown.index(_CUT)].truncate(max(1, room_for_name), overflow="ellipsis")
        table.add_row(*cells)
    output.print(table)
    output.file.flush()
    if left := [column.heading for index, column in enumerate(_SESSION) if index not in shown]:
        say(f"no room for {', '.join(left)}; --json has them", error=True)


def _columns_that_fit(widths: list[int], room: int) -> list[int]:
    """Which columns are shown, in their order; those of rank 0 always are."""
    shown = list(range(len(widths)))
    for index in sorted(shown, key=lambda index: -_SESSION[index].rank):
        if not _SESSION[index].rank or _total(widths, shown) <= room:
            break
        shown.remove(index)
    return shown


def _total(widths: list[int], shown: list[int]) -> int:
    return sum(widths[index] for index in shown) + _GAP * (len(shown) - 1)


def _session_cells(item: SessionInfo) -> tuple[str, ...]:
    """What the columns have."""
    return (
        item.session_id,
        item.camera_id,
        item.model,
        item.state,
        "" if item.age is None else _duration(item.age),
        "{}x{}".format(*item.frame_size) if item.frame_size else "",
        f"{item.fps:.1f}",
        f"{item.latency_p50 * 1e3:.0f}",
        f"{item.latency_p99 * 1e3:.0f}",
        f"{item.block_drop_rate:.0%}",
        f"{item.block_budget:.0%}",
        *(str(count) for count in (item.frames_ok, item.frames_dropped, item.frames_invalid)),
    )


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _limit(seconds: float) -> str:
    return _duration(seconds) if seconds > 0 else "none"


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s" if minutes else f"{left} s"
    )
