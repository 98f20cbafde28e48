"""What the training and evaluation commands print and how they name data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tilestream.terminal import console, printable
from tilestream_training.clip_evaluation import ClipPoint
from tilestream_training.evaluation import StillsReport
from tilestream_training.monitor import rank_correlation
from tilestream_training.stream_evaluation import DenseScore, StreamPoint


def print_stills(title: str, report: StillsReport) -> None:
    """A table of one evaluation on stills."""
    table = Table("class", "IoU", title=_text(f"{title}: mIoU {report.miou:.4f} over {report.frames} frames"))
    for name, value in report.iou.items():
        table.add_row(_text(name), "-" if value is None else f"{value:.3f}")
    console().print(table)


def print_stream(title: str, dense: DenseScore, points: Sequence[StreamPoint]) -> None:
    """A table of one evaluation on a labelled video."""
    columns = (
        "method",
        "budget",
        "units",
        "MACs",
        "mIoU",
        "loss",
        "agreement",
        "reuse agr.",
        "ms",
        "p50",
        "p99",
    )
    table = Table(*columns, "speed-up", title=_text(f"{title}: dense {dense.miou:.4f}, {dense.ms:.1f} ms"))
    for p in points:
        known = "" if p.reuse_agreement is None else f"{p.reuse_agreement:.4f}"
        cells = [p.method, f"{p.budget:g}", f"{p.units_kept:.3f}", f"{p.macs_ratio:.3f}", f"{p.miou:.4f}"]
        cells += [f"{p.miou_loss:+.2f}", f"{p.agreement:.4f}", known]
        table.add_row(
            *cells, *(f"{ms:.1f}" for ms in (p.ms, p.p50_ms, p.p99_ms)), f"{p.speedup_vs_dense:.2f}"
        )
    console().print(table)


def print_clips(title: str, points: Sequence[ClipPoint]) -> None:
    """A table of one evaluation on unlabelled videos."""
    columns = (
        "clip",
        "method",
        "budget",
        "MACs",
        "agreement",
        "p5",
        "reuse agr.",
        "dense ms",
        "ms",
        "speed-up",
    )
    table = Table(*columns, title=_text(title))
    for p in points:
        known = "" if p.reuse_agreement is None else f"{p.reuse_agreement:.4f}"
        cells: list[str | Text] = [_text(p.clip), p.method, f"{p.budget:g}", f"{p.macs_ratio:.3f}"]
        cells += [f"{p.agreement:.4f}"]
        cells += [f"{p.agreement_p5:.4f}", known, f"{p.dense_ms:.1f}", f"{p.ms:.1f}"]
        table.add_row(*cells, f"{p.speedup_vs_dense:.2f}")
    console().print(table)


def _text(name: str) -> Text:
    """A name of a file, a model or a class, which is never markup."""
    return Text(printable(name))


def monitor_correlations(points: Sequence[StreamPoint]) -> dict[str, Any]:
    """How well what the engine knows without labels orders points by their true loss: rank correlations.

    Over all points, and ``by_method`` over the budgets of each. ``agreement_with_dense``, which needs the
    dense labels, and ``units_kept``, which needs nothing, are what the others can be compared with.
    """
    known = [point for point in points if point.reuse_wrong is not None]
    methods = dict.fromkeys(point.method for point in known)
    return {
        "points": len(known),
        **_correlations(known),
        "by_method": {name: _correlations([p for p in known if p.method == name]) for name in methods},
    }


def _correlations(points: Sequence[StreamPoint]) -> dict[str, float | None]:
    losses = [point.miou_loss for point in points]
    found = {
        "reuse_agreement": rank_correlation([-(p.reuse_agreement or 0.0) for p in points], losses),
        "reuse_wrong": rank_correlation([p.reuse_wrong or 0.0 for p in points], losses),
        "agreement_with_dense": rank_correlation([-p.agreement for p in points], losses),
        "units_kept": rank_correlation([-p.units_kept for p in points], losses),
    }
    return {name: None if isnan(value) else round(value, 3) for name, value in found.items()}


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a result, making its folder where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def parse_shares(text: str) -> list[float]:
    """Comma-separated budgets. Raises ValueError where one is none."""
    shares = [float(part) for part in text.split(",")]
    for share in shares:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"budget {share:g}; allowed: above 0, at most 1")
    return shares


def public_name(text: str) -> str:
    """A data specification without the folder, which concerns nobody else."""
    kind, _, rest = split_share(text)[0].partition(":")
    return f"{kind}:{rest}" if rest.isdigit() else kind


def split_share(text: str) -> tuple[str, float]:
    """``KIND:PATH@SHARE`` in its two parts; a path may hold an @ of its own."""
    specification, at, share = text.rpartition("@")
    if at and share.replace(".", "", 1).isdigit():
        return specification, float(share)
    return text, 1.0
