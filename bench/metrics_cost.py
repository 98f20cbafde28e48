"""What metrics cost: a real server that records them and is scraped, against the same one without, in turns.

Two looks at the same thing. CPU seconds per frame and frames/s, with and without, say what is lost in the
end, as far as the machine's noise lets them. The CPU time inside the recording calls, measured around each
while frames go through, is small and sharp: it is set against the whole time and the CPU time of a frame.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds
from bench.server_overhead import encode
from bench.turns import write_result
from tilestream_client import Client
from tilestream_street import SyntheticStreet
from tools.server_process import server_process

MODES = ("recorded", "silent", "timed")
SCRAPE_SECONDS = 5.0  # deploy/prometheus/prometheus.yml


@dataclass(slots=True)
class ServerProcess:
    """A running bench.metrics_switch."""

    process: subprocess.Popen[bytes]
    address: str
    metrics_url: str
    folder: Path

    def cpu_seconds(self) -> float:
        """User and system time so far, of the process and of those that it started."""
        return cpu_seconds(self.process.pid)

    def scrape(self) -> int:
        """Ask for the metrics once; bytes."""
        with urllib.request.urlopen(self.metrics_url, timeout=60) as answer:
            return len(answer.read())

    def switch(self, mode: str) -> dict[str, float]:
        """Change the mode; the seconds inside recording calls, while timed, so far, and their number."""
        state = self.folder / "state"
        state.unlink(missing_ok=True)
        (self.folder / "mode").write_text(mode)
        self.process.send_signal(signal.SIGUSR1)
        while not state.exists():
            time.sleep(0.01)
        return dict(json.loads(state.read_text()))


@contextlib.contextmanager
def started(model: str, threads: int) -> Iterator[ServerProcess]:
    """A server process on free ports."""
    with tempfile.TemporaryDirectory() as name:
        with socket.create_server(("127.0.0.1", 0)) as held:
            metrics_port = held.getsockname()[1]
        flags = {"log-level": "warning", "models": model, "threads": threads, "metrics-port": metrics_port}
        words = [f"--{key}={value}" for key, value in (flags | {"min-block-budget": 1.0}).items()]
        command = [sys.executable, "-m", "bench.metrics_switch"]
        environment = {**os.environ, "METRICS_COST_FOLDER": name}
        with server_process(Path(name), *words, command=command, environment=environment) as (process, port):
            metrics = f"http://127.0.0.1:{metrics_port}/metrics"
            yield ServerProcess(process, f"127.0.0.1:{port}", metrics, Path(name))


@contextlib.contextmanager
def scraped(server: ServerProcess) -> Iterator[None]:
    """Scrape it as Prometheus would, meanwhile."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(SCRAPE_SECONDS):
            server.scrape()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Turn:
    """What the server did in one turn."""

    frames: int
    seconds: float
    cpu_seconds: float

    @property
    def cpu_ms(self) -> float:
        return self.cpu_seconds / self.frames * 1e3

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


def turn(server: ServerProcess, client: Client, jpegs: list[bytes], budget: float, seconds: float) -> Turn:
    """Stream for about ``seconds``, two frames in flight."""
    begin, cpu, frames = time.perf_counter(), server.cpu_seconds(), 0

    def source() -> Iterator[bytes]:
        while time.perf_counter() - begin < seconds:
            yield from jpegs

    for result in client.stream(source(), frames_in_flight=2, block_budget=budget):
        assert result.ok, result.detail
        frames += 1
    return Turn(frames, time.perf_counter() - begin, server.cpu_seconds() - cpu)


def scrape_cost(server: ServerProcess, times: int = 100) -> dict[str, float]:
    """CPU milliseconds of the server per scrape, while it does nothing else, and the answer's bytes."""
    cpu = server.cpu_seconds()
    size = [server.scrape() for _ in range(times)][-1]
    cost = (server.cpu_seconds() - cpu) / times
    return {"cpu_ms": round(cost * 1e3, 2), "bytes": size, "share_of_a_core": round(cost / SCRAPE_SECONDS, 5)}


def measure(arguments: argparse.Namespace, jpegs: list[bytes], budget: float) -> dict[str, Any]:
    """Both looks at one budget."""
    turns: dict[str, list[Turn]] = {mode: [] for mode in MODES}
    with started(arguments.model, arguments.threads) as server, Client(server.address) as client:
        turn(server, client, jpegs, budget, 3.0)
        for number in range(arguments.rounds):
            for mode in MODES if number % 2 else reversed(MODES):
                server.switch(mode)
                with scraped(server) if mode == "recorded" else contextlib.nullcontext():
                    turns[mode].append(turn(server, client, jpegs, budget, arguments.seconds))
        inside = server.switch("recorded")
        scrape = scrape_cost(server)
    timed = turns["timed"]
    frames = sum(t.frames for t in timed)
    milliseconds = inside["seconds"] / frames * 1e3
    frame_ms = sum(t.seconds for t in timed) / frames * 1e3
    cpu_ms = sum(t.cpu_seconds for t in timed) / frames * 1e3
    return {
        "budget": budget,
        "frame_ms": round(frame_ms, 2),
        "frame_cpu_ms": round(cpu_ms, 2),
        "inside_us_per_frame": round(milliseconds * 1e3, 1),
        "calls_per_frame": round(inside["calls"] / frames, 2),
        "inside_share_of_frame": round(milliseconds / frame_ms, 5),
        "inside_share_of_cpu": round(milliseconds / cpu_ms, 5),
        "scrape": scrape,
        "recorded_over_silent": {
            "cpu_per_frame": compared(turns["recorded"], turns["silent"], lambda t: t.cpu_ms),
            "fps": compared(turns["recorded"], turns["silent"], lambda t: t.fps),
        },
        "cpu_ms_per_frame": {mode: [round(t.cpu_ms, 2) for t in turns[mode]] for mode in MODES},
        "fps": {mode: [round(t.fps, 2) for t in turns[mode]] for mode in MODES},
    }


def compared(ours: list[Turn], others: list[Turn], value: Callable[[Turn], float]) -> dict[str, Any]:
    """Ratio of medians, and the quartiles of the ratios round by round."""
    ratios = [value(a) / value(b) for a, b in zip(ours, others, strict=True)]
    medians = statistics.median(map(value, ours)) / statistics.median(map(value, others))
    quartiles = [round(quartile, 4) for quartile in statistics.quantiles(ratios, n=4)]
    return {"ratio_of_medians": round(medians, 4), "quartiles_by_round": quartiles}


def main() -> None:
    """Measure and write ``bench/results/metrics_cost.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--size", default="480x360")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the engine; 1: nobody waits for another core"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=[1.0, 0.1])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="per turn")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    street = SyntheticStreet(seed=7, width=width, height=height, fps=15.0)
    jpegs = encode([street.frame(t).image for t in range(30)])
    runs = []
    for budget in arguments.budgets:
        runs.append(measure(arguments, jpegs, budget))
        print(json.dumps(runs[-1]), flush=True)
    body = {"model": arguments.model, "threads": arguments.threads, "size": [width, height], "runs": runs}
    write_result("metrics_cost", "python -m bench.metrics_cost " + " ".join(sys.argv[1:]), body)


if __name__ == "__main__":
    main()
