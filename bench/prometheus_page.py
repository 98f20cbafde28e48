"""What Prometheus says of a run next to what its clients saw, in one table; and a picture of the run.

A real server and a real Prometheus; the load generator is the client. Client and server share the cores.
Needs Debian's packages `prometheus` and, for ``--picture``, `chromium`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.overload import clip
from bench.turns import RESULTS, write_result
from tilestream_client import Result
from tilestream_client.load import LoadPlan, LoadReport, run_load
from tilestream_client.stats import Latencies, Tally
from tools.prometheus import ask, prometheus, wait_for, wait_for_scrape
from tools.server_process import serving

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
ENDED = ("completed", "dropped", "invalid", "unanswered")
LATENCY = "tilestream_frame_latency_seconds"
MEAN = f"sum({LATENCY}_sum) / sum({LATENCY}_count)"
RECEIVED, COMPLETED, DROPPED = (
    f"sum(tilestream_frames_{name}_total)" for name in ("received", "completed", "dropped")
)
KEY_FRAMES = 'sum(tilestream_frames_completed_total{kind="key"})'
UNITS, UNITS_DROPPED = (f"sum(tilestream_block_units_{name}_total)" for name in ("computed", "dropped"))
PANELS = (
    "sum by (kind) (rate(tilestream_frames_completed_total[10s]))",
    "sum by (reason) (rate(tilestream_frames_dropped_total[10s])) > 0",
    " / ".join(f"sum by (stage) (rate(tilestream_stage_seconds_{x}[10s]))" for x in ("sum", "count")),
)
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    "--virtual-time-budget=20000",  # milliseconds for the page to draw itself
)


@dataclass(slots=True)
class Seen(Tally):
    """A tally that also keeps how long each result took from sending on, sums, and when it came."""

    from_sending: Latencies = field(default_factory=Latencies)
    server_seconds: float = 0.0
    sending_seconds: float = 0.0
    answers: list[float] = field(default_factory=list)  # when those with a mask came, Unix seconds

    def speed(self, end: float, seconds: float) -> float:
        """Frames with a mask per second, in the ``seconds`` before ``end``."""
        return sum(end - seconds < answer <= end for answer in self.answers) / seconds

    def add(self, result: Result, latency: float | None = None) -> None:
        super(Seen, self).add(result, latency)
        if result.ok:
            self.from_sending.add(result.latency)
            self.server_seconds += result.times.total
            self.sending_seconds += result.latency
            self.answers.append(time.time())


@dataclass(frozen=True, slots=True)
class Row:
    """One number as Prometheus has it, as the clients have it, and why the two may differ."""

    what: str
    expression: str
    client: float
    why: str
    prometheus: float = 0.0


def totals(seen: Seen) -> list[Row]:
    """What is counted once in each place; the server is new, so its totals are the run's."""
    sent, same = seen.sent, "the same frames are counted"
    return [
        Row("frames sent", RECEIVED, sent, same),
        Row("frames with a mask", COMPLETED, seen.ok, same),
        Row("of these key frames", KEY_FRAMES, seen.key_frames, same),
        Row("frames dropped", DROPPED, seen.dropped, same),
        Row("share of frames dropped", f"{DROPPED} / {RECEIVED}", seen.dropped / sent, same),
        Row("block drop rate", f"{UNITS_DROPPED} / ({UNITS_DROPPED} + {UNITS})", seen.block_drop_rate, same),
    ]


def rates(url: str, seen: Seen, end: float, length: int) -> list[Row]:
    """Frames/s over the ``length`` seconds before ``end``."""
    speed = seen.speed(end, length)
    averaged = sum(seen.speed(end - second, 5.0) for second in range(length)) / length
    counter, gauge = "tilestream_frames_completed_total", "tilestream_fps"
    samples = ask(url, f"sum(count_over_time({gauge}[{length}s]))", end)
    ends = "rate() sees the first and the last scrape of the window only"
    means = f"means of 5 s each, on both sides; {samples:.0f} of {length} scrapes succeeded"
    return [
        Row("frames/s", f"sum(rate({counter}[{length}s]))", speed, ends),
        Row("frames/s, gauge", f"sum(avg_over_time({gauge}[{length}s]))", averaged, means),
    ]


def latencies(seen: Seen) -> list[Row]:
    """Seconds: on the server, as its results say, and as clients see them."""
    place = "the bucket of the value is known, the place in it is guessed; above 2 s it says 2 s"
    way = "Prometheus has the server's time, without the way and the client"
    due = f"{way}, which lets frames wait before it sends them"
    p50, p99, due99 = (
        value or 0.0
        for value in (
            seen.server.percentile(50),
            seen.server.percentile(99),
            seen.latencies.percentile(99),
        )
    )
    return [
        Row(
            "mean latency on the server, s", MEAN, seen.server_seconds / seen.ok, "the same times are summed"
        ),
        Row("p50 latency on the server, s", quantile(0.5), p50, place),
        Row("p99 latency on the server, s", quantile(0.99), p99, place),
        Row("mean latency from sending, s", MEAN, seen.sending_seconds / seen.ok, way),
        Row("p99 latency from when it was due, s", quantile(0.99), due99, due),
    ]


def quantile(share: float) -> str:
    """The expression of a percentile of the latency."""
    return f"histogram_quantile({share:g}, sum by (le) ({LATENCY}_bucket))"


def compared(url: str, seen: Seen, seconds: float) -> list[Row]:
    """All rows, with what Prometheus says."""
    end = seen.answers[-1]
    found = [replace(row, prometheus=ask(url, row.expression)) for row in (*totals(seen), *latencies(seen))]
    while_running = rates(url, seen, end, max(10, int(seconds) - 5))
    return [*found, *(replace(row, prometheus=ask(url, row.expression, end)) for row in while_running)]


def page(found: list[Row], title: str) -> str:
    """The rows in Markdown."""
    lines = [f"# {title}", "", "| | Prometheus | clients | difference | expression | why they may differ |"]
    lines.append("|---" * 6 + "|")
    for row in found:
        off = f"{row.prometheus / row.client - 1:+.1%}" if row.client else f"{row.prometheus - row.client:+g}"
        numbers = f"{row.prometheus:.4g} | {row.client:.4g} | {off}"
        lines.append(f"| {row.what} | {numbers} | `{row.expression}` | {row.why} |")
    return "\n".join(lines) + "\n"


def picture(url: str, path: Path, seconds: float) -> None:
    """Prometheus' own page of the run so far, as a browser draws it."""
    query: list[tuple[str, str]] = []
    for number, expression in enumerate(PANELS):
        query += [(f"g{number}.expr", expression), (f"g{number}.tab", "0")]
        query += [(f"g{number}.range_input", f"{int(seconds)}s")]
    with tempfile.TemporaryDirectory() as profile:
        command = [*CHROMIUM, f"--user-data-dir={profile}", f"--screenshot={path}"]
        command += ["--window-size=1000,2420", f"{url}/graph?{urllib.parse.urlencode(query)}"]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    pixels = cv2.imread(str(path))
    assert pixels is not None, path
    few_colours = np.minimum((pixels.astype(np.int32) + 8) // 17 * 17, 255).astype(np.uint8)  # half the bytes
    cv2.imwrite(str(path), few_colours, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def during(seconds: float, work: Callable[[], None]) -> threading.Thread:
    """Do it in a thread, ``seconds`` from now."""
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer


def main() -> None:
    """Run, compare, and write ``bench/results/prometheus_page.{json,md}``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--fps", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--picture", type=Path, help="PNG of Prometheus' page near the end of the run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as held:
        metrics = f"127.0.0.1:{held.getsockname()[1]}"
        held.close()
        jpegs = clip(Path(name))
        flags = ("--models", arguments.model, "--metrics-port", metrics.rpartition(":")[2])
        with serving(*flags) as address, prometheus(metrics, RULES, interval=1.0) as url:
            seen = Seen()
            report = LoadReport(arguments.sessions, tally=seen)
            plan = LoadPlan(
                clip=jpegs, sessions=arguments.sessions, fps=arguments.fps, seconds=arguments.seconds
            )
            drawing = None
            if arguments.picture:
                draw = lambda: picture(url, arguments.picture, arguments.seconds)  # noqa: E731
                drawing = during(0.8 * arguments.seconds, draw)
            asyncio.run(run_load(address, plan, report=report))
            wait_for_scrape(url)
            sum_of = " + ".join(f"sum(tilestream_frames_{name}_total)" for name in ENDED)
            wait_for(lambda: ask(url, sum_of) == seen.sent, "all frames are counted")
            found = compared(url, seen, arguments.seconds)
            if drawing is not None:
                drawing.join()
    command = "python -m bench.prometheus_page " + " ".join(sys.argv[1:])
    body: dict[str, Any] = {"model": arguments.model, "load": report.summary()}
    body["rows"] = [{"what": r.what, "prometheus": r.prometheus, "clients": r.client} for r in found]
    write_result("prometheus_page", command, body)
    text = page(
        found, f"{arguments.sessions} cameras, {arguments.fps:g} frames/s each, {arguments.seconds:g} s"
    )
    (RESULTS / "prometheus_page.md").write_text(text + f"\n`{command}`, {time.strftime('%Y-%m-%d')}\n")
    print(text, json.dumps(report.summary()))


if __name__ == "__main__":
    main()
