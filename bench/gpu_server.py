"""A server with more and more cameras: frames/s and latency, overload control against pinned budgets.

Servers and load generators are processes of their own. For each number of cameras the two servers take turns;
the one that waits computes nothing. Cameras send by the clock, whether the server keeps up or not, and
latency counts from when a frame was due. *Skipped* frames could not be sent in time; *failed* sessions were
refused or broke off. Numbers go into ``--json`` after every row, and every wait has a limit, so that a run
that is cut off leaves what it has found.

What follows ``--`` are further flags of ``tilestream serve``, for both servers.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import Popen
from typing import Any

from bench.clips import load_clip, parse_size
from bench.generators import Generators, Load, facts_of
from bench.overload import PINNED
from bench.processes import cpu_seconds
from bench.step_facts import free_port, step_sums, steps_between
from bench.turns import machine
from tilestream_client import Client, TilestreamError
from tools.server_process import NotStartedError, server_process

STOP_SECONDS = 10.0
MOST_STARTS = 2  # of one kind of server
PRIMING = 2.0  # seconds of load after a start that nobody looks at
LOG_LINES = 15

Row = dict[str, Any]


@dataclass(slots=True)
class Server:
    """A server with given flags, which is started when it is needed and again if it has died."""

    kind: str
    flags: Sequence[str]
    folder: Path
    start_seconds: float
    starts: int = 0
    address: str = ""
    metrics_port: int = 0
    info: Row = field(default_factory=dict)
    _process: Popen[bytes] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """So far, of it and its engines."""
        return cpu_seconds(self._process.pid) if self._process is not None else 0.0

    @property
    def log_tail(self) -> list[str]:
        """The end of its log."""
        log = self.folder / "server.log"
        return log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []

    def start(self) -> None:
        """Raises :class:`NotStartedError`, at once where it was started too often."""
        if self.starts >= MOST_STARTS:
            raise NotStartedError("started too often")
        self.close()
        self.starts += 1
        self.folder.mkdir(exist_ok=True)
        begin = time.monotonic()
        self.metrics_port = free_port()
        flags = ("--log-level", "warning", "--metrics-port", str(self.metrics_port), *self.flags)
        started = server_process(
            self.folder, *flags, start_seconds=self.start_seconds, stop_seconds=STOP_SECONDS
        )
        self._process, port = self._stack.enter_context(started)
        self.address = f"127.0.0.1:{port}"
        try:
            with Client(self.address) as client:
                told = client.info()
        except TilestreamError as error:
            raise NotStartedError(f"it does not answer: {error}") from error
        self.info = {"device": told.device, "precision": told.precision}
        self.info["start_seconds"] = round(time.monotonic() - begin, 1)

    def close(self) -> None:
        """Shut it down, if it runs."""
        self._stack.close()
        self._process = None


def measure(server: Server, generators: Generators, load: Load) -> Row:
    """One row; starts the server where it does not run."""
    row: Row = {"server": server.kind, "cameras": load.cameras}
    try:
        if not server.alive:
            server.start()
            generators.start(server.address, replace(load, warmup=0.0, seconds=PRIMING))
            generators.collect()
    except NotStartedError as error:
        return {**row, "error": str(error), "log": server.log_tail}
    generators.start(server.address, load)
    time.sleep(load.warmup)
    used, begin, sums = server.cpu_seconds, time.monotonic(), step_sums(server.metrics_port)
    time.sleep(load.seconds)
    used, passed = server.cpu_seconds - used, time.monotonic() - begin
    steps = steps_between(sums, step_sums(server.metrics_port))
    report, busiest = generators.collect()
    row |= facts_of(report, load)
    row |= steps
    row |= {"server_cpu_s": round(used, 2), "server_cores": round(used / passed, 2)}
    row["busiest_generator_cores"] = round(busiest, 2)
    if report.errors or not report.tally.ok or not server.alive:
        row |= {"alive": server.alive, "log": server.log_tail}
    return row


COLUMNS = ("server", "cameras", "frames/s", "due/s", "dropped", "skipped", "failed")
TIMES = ("p50", "p99", "srv p50", "srv p99")
SHARES = ("drop rate", "agreement", "cores", "per step", "step ms")


def heading() -> str:
    """Of the table."""
    return " ".join(f"{name:>9}" for name in (*COLUMNS, *TIMES, *SHARES))


def line(row: Row) -> str:
    """Of the table."""
    if "error" in row:
        return f"{row['server']:>9} {row['cameras']:>9} {row['error']}"
    cells = [row["server"], row["cameras"], row["fps"], row["due_fps"], row["dropped"], row["skipped"]]
    cells += [row["sessions_failed"]]
    cells += [row[times][percent] for times in ("latency_ms", "server_ms") for percent in ("p50", "p99")]
    cells += [row["block_drop_rate"], row["agreement"], row["server_cores"]]
    cells += [row.get("step_frames"), row.get("step_ms")]
    return " ".join(f"{_cell(value):>9}" for value in cells)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return "-" if value is None else str(value)


def device_facts() -> Row:
    """What the numbers are of; without importing torch, which would take memory of the device."""
    facts: Row = {"machine": machine()}
    for package in ("torch", "triton", "torchvision"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        facts["gpus"] = subprocess.run(
            query, capture_output=True, text=True, timeout=20, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        facts["gpus"] = []
    return facts


def servers_of(arguments: argparse.Namespace, folder: Path, most_cameras: int) -> list[Server]:
    """Those that are asked for; both where none is."""
    flags = ["--models", arguments.model, "--device", arguments.device, "--precision", arguments.precision]
    flags += ["--max-sessions", str(2 * most_cameras)]
    if arguments.gate:
        flags += ["--gate", arguments.gate]
    flags += arguments.flags
    kinds = {"adaptive": ["--block-budget", str(arguments.budget)] if arguments.budget else []}
    kinds["pinned"] = list(PINNED)
    wanted = [kind for kind in kinds if getattr(arguments, kind)] or list(kinds)
    limit = arguments.start_seconds
    return [Server(kind, [*flags, *kinds[kind]], folder / kind, limit) for kind in wanted]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--gate", default="", help="of both servers; default: the server's")
    parser.add_argument("--budget", type=float, default=0.0, help="of the adaptive server; 0: its default")
    parser.add_argument("--adaptive", action="store_true", help="only this server, or both if both are named")
    parser.add_argument("--pinned", action="store_true", help="likewise")
    parser.add_argument("--cameras", default="8,16,32,64,128", help="numbers, comma-separated")
    parser.add_argument("--fps", type=float, default=15.0, help="of a camera")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row, counted")
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds before these")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=Path, help="folder of JPEGs; without: a drawn street")
    parser.add_argument("--generators", type=int, default=6, help="processes")
    parser.add_argument("--mask", default="rle", choices=("rle", "png", "raw"))
    parser.add_argument("--in-flight", type=int, default=4, help="frames of a camera; one more is dropped")
    parser.add_argument("--start-seconds", type=float, default=120.0, help="that a server may take to start")
    parser.add_argument("--json", type=Path)
    parser.add_argument("flags", nargs="*", help="of the servers, after --")
    return parser


def main(words: Sequence[str] | None = None) -> list[Row]:
    """Measure, print a table and write ``--json`` after every row."""
    arguments = parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the servers would outlive this process
    counts = [int(count) for count in arguments.cameras.split(",")]
    facts = {
        "command": " ".join(["python -m bench.gpu_server", *(sys.argv[1:] if words is None else words)]),
        **device_facts(),
        "size": arguments.size,
        "camera_fps": arguments.fps,
        "mask": arguments.mask,
    }
    clip = load_clip(arguments.frames, parse_size(arguments.size))
    print(f"{facts['gpus'] or 'no GPU'}, torch {facts['torch']}\n{heading()}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        generators = Generators(clip, arguments.generators)
        stack.callback(generators.close)
        servers = servers_of(arguments, Path(name), max(counts))
        for server in servers:
            stack.callback(server.close)
        for cameras in counts:
            load = Load(
                cameras,
                arguments.fps,
                arguments.warmup,
                arguments.seconds,
                arguments.in_flight,
                arguments.mask,
            )
            for server in servers:
                rows.append(measure(server, generators, load))
                print(line(rows[-1]), *rows[-1].get("log", ()), sep="\n  ", flush=True)
                if arguments.json is not None:
                    told = {server.kind: server.info for server in servers}
                    arguments.json.write_text(json.dumps({**facts, "servers": told, "rows": rows}, indent=2))
    return rows


if __name__ == "__main__":
    main()
