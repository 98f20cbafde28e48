"""What a server tells, as tables on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tilestream_client.info import Model, ServerInfo, SessionInfo


def show_models(models: Iterable[Model]) -> None:
    """One row per model; classes with a patch of their colour."""
    table = Table("model", "parameters", "mIoU", "classes")
    for model in models:
        name = f"{model.name} (default)" if model.is_default else model.name
        classes = Text()
        for item in model.classes:
            classes.append("■ ", style="rgb({},{},{})".format(*item.color)).append(f"{item.name}  ")
        miou = "" if model.reference_miou is None else f"{model.reference_miou:.3f}"
        table.add_row(name, f"{model.parameters / 1e6:.1f} M", miou, classes)
    Console().print(table)


def show_info(info: ServerInfo) -> None:
    """One row per fact."""
    table = Table(show_header=False)
    limits = info.limits
    facts = {
        "version": info.version,
        "device": f"{info.device}, {info.precision}",
        "state": "draining" if info.draining else "serving",
        "up for": _duration(time.time() - info.start_time) if info.start_time else "unknown",
        "sessions": f"{info.sessions} of {info.max_sessions}",
        "default model": info.default_model,
        "mask encodings": ", ".join(info.mask_encodings),
        "queue policies": ", ".join(info.queue_policies),
        "largest frame": f"{limits.max_frame_bytes} bytes, {limits.max_frame_pixels} pixels, "
        f"{limits.max_frame_side} pixels a side",
        "computes at": f"{limits.max_compute_pixels} pixels at most",
        "frames in flight": f"{limits.max_frames_in_flight} at most",
        "idle time-out": _duration(limits.idle_timeout),
        "longest session": _duration(limits.max_session_age),
    }
    for name, value in facts.items():
        table.add_row(name, value)
    Console().print(table)


def show_sessions(sessions: Iterable[SessionInfo]) -> None:
    """One row per live session."""
    columns = (
        "session",
        "camera",
        "model",
        "state",
        "age",
        "size",
        "fps",
        "p50 / p99 ms",
        "reused",
        "budget",
    )
    table = Table(*columns, "ok", "dropped", "invalid")
    for item in sessions:
        table.add_row(
            item.session_id,
            item.camera_id,
            item.model,
            item.state,
            _duration(time.time() - item.start_time),
            "{}x{}".format(*item.frame_size) if item.frame_size else "",
            f"{item.fps:.1f}",
            f"{item.latency_p50 * 1e3:.0f} / {item.latency_p99 * 1e3:.0f}",
            f"{item.block_drop_rate:.0%}",
            f"{item.block_budget:.0%}",
            *(str(count) for count in (item.frames_ok, item.frames_dropped, item.frames_invalid)),
        )
    Console().print(table)


def _duration(seconds: float) -> str:
    if seconds <= 0:
        return "none"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s" if minutes else f"{left} s"
    )
