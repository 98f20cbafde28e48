"""What the training and evaluation commands print and how they name data."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilestream.training.evaluation import StillsReport


def print_stills(title: str, report: StillsReport) -> None:
    """A table of one evaluation on stills."""
    table = Table("class", "IoU", title=f"{title}: mIoU {report.miou:.4f} over {report.frames} frames")
    for name, value in report.iou.items():
        table.add_row(name, "-" if value is None else f"{value:.3f}")
    Console().print(table)


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
