"""Accuracy against time, as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tilestream_training.stream_evaluation import DenseScore, StreamPoint


def plot_points(path: Path, title: str, dense: DenseScore, points: Sequence[StreamPoint]) -> None:
    """Draw mIoU against milliseconds per frame, a line per method; the dense network is dashed.

    Milliseconds are the dense network's, divided by the speed-up that was measured in turns with it: what
    else the machine did while one of the points was measured moves it nowhere. Raises ValueError for an
    ending that is no picture's, OSError where the file cannot be written.
    """
    methods: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for point in points:
        methods[point.method].append((point.budget, dense.ms / point.speedup_vs_dense, point.miou))
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="milliseconds per frame", ylabel="mIoU")
    axes.axhline(dense.miou, color="black", linestyle="--", linewidth=1)
    axes.plot([dense.ms], [dense.miou], "ko", label="dense")
    for name, found in methods.items():
        _, ms, miou = zip(*sorted(found), strict=True)
        axes.plot(ms, miou, marker="o", label=name)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
