"""Frames per second of one client process, Go beside Python, against a server that answers at once.

The server is a program in Go in a process of its own; frames have 60 KB, answers 10 KB. Clients take turns.
CPU time is that of the client's process, by the system's account, from its start to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.turns import write_result
from tilestream_client import AsyncClient
from tools import go_toolchain

STREAMS = (1, 16, 64)
FRAME_BYTES, MASK_BYTES = 60_000, 10_000  # the Go benchmark has the same
IN_FLIGHT = 4
_GO_LINE = re.compile(
    r"^BenchmarkThroughput/\S+\s+(\d+).*?([\d.]+) frames/s\s+(\d+) B/op\s+(\d+) allocs/op", re.M
)


def build(folder: Path) -> tuple[Path, Path]:
    """The server and the benchmarks of the Go client, compiled."""
    go = go_toolchain.find()
    server, client = folder / "server", folder / "client.test"
    for words in (
        ("build", "-o", str(server), "./internal/fakeserver/cmd"),
        ("test", "-c", "-o", str(client), "."),
    ):
        environment = go_toolchain.environment(go)
        subprocess.run((str(go), *words), cwd=go_toolchain.MODULE, env=environment, check=True)
    return server, client


@contextmanager
def served(command: Path) -> Iterator[str]:
    """The server's address, while it runs."""
    words = (str(command), "-mask-bytes", str(MASK_BYTES))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def timed(words: tuple[str, ...], **environment: str) -> tuple[str, float]:
    """What a program printed, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(
        words, env={**go_toolchain.environment(go_toolchain.find()), **environment},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return said, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_go(client: Path, target: str, streams: int, frames: int) -> dict[str, float]:
    """One run of the Go benchmark; the process also runs one frame to begin with."""
    said, seconds = timed(
        (
            str(client), "-test.run=^$", f"-test.bench=Throughput/streams={streams}$",
            f"-test.benchtime={frames}x",
        ),
        TILESTREAM_BENCH_SERVER=target,
    )  # fmt: skip
    found = _GO_LINE.search(said)
    assert found, said
    count, rate, size, allocations = found.groups()
    cpu = seconds * 1e3 / int(count)
    return {"fps": float(rate), "cpu_ms": cpu, "allocations": int(allocations), "allocated_bytes": int(size)}


def measure_python(target: str, streams: int, frames: int) -> dict[str, float]:
    """One run of the asyncio client in a process of its own."""
    words = (sys.executable, "-m", "bench.client_throughput", "--target", target)
    said, seconds = timed((*words, "--streams", str(streams), "--frames", str(frames)))
    return {"fps": float(said.split()[-1]), "cpu_ms": seconds * 1e3 / frames}


async def stream_all(target: str, streams: int, frames: int) -> float:
    """Frames per second of this process."""
    data = bytes(FRAME_BYTES)

    async def source(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield data

    async def one(client: AsyncClient, count: int) -> int:
        stream = client.stream(source(count), mask_encoding="raw", frames_in_flight=IN_FLIGHT)
        return sum([result.ok async for result in stream])

    async with AsyncClient(target) as client:
        await one(client, 10)
        began = time.perf_counter()
        done = await asyncio.gather(*(one(client, frames // streams) for _ in range(streams)))
        return sum(done) / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8000)
    parser.add_argument("--target", default="", help="be the Python client of this server")
    parser.add_argument("--streams", type=int, default=1)
    options = parser.parse_args()
    if options.target:
        print(asyncio.run(stream_all(options.target, options.streams, options.frames)))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        server, client = build(Path(name))
        with served(server) as target:
            for streams in STREAMS:
                go, python = [], []
                for _ in range(options.rounds):
                    go.append(measure_go(client, target, streams, options.frames))
                    python.append(measure_python(target, streams, options.frames // 4))
                for language, runs in (("go", go), ("python", python)):
                    rows.append({"client": language, "streams": streams, **_middle(runs)})
                    print(rows[-1], flush=True)
    command = f"python -m bench.client_throughput --rounds {options.rounds} --frames {options.frames}"
    body: dict[str, Any] = {"frame_bytes": FRAME_BYTES, "mask_bytes": MASK_BYTES, "runs": rows}
    print(f"wrote {write_result('client_throughput', command, body)}")
    return 0


def _middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of every figure, and the best rate: what else runs on the machine only makes it lower."""
    middle = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    return {"fps_best": round(max(run["fps"] for run in runs), 1), **middle}


if __name__ == "__main__":
    sys.exit(main())
