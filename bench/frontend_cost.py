"""What the server does per frame besides computing: CPU time by kind of thread of its own process.

A server whose engine answers at once, in a thread or (``--process``) in a process of its own, which is not
counted. Cameras in another process send JPEGs as fast as answers come, and look at nothing. With several
``--source`` folders servers of these versions of the product run at the same time, so that all meet the same
weather: on a busy machine the CPU time of the same work varies by a factor of two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import pstats
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import grpc

from bench.frontend_server import FOLDER
from bench.instant_engine import APART, MASKS, street
from bench.server_overhead import encode
from bench.turns import machine
from tilestream.v1 import segmentation_pb2 as pb
from tools.server_process import server_process

Counter = Any  # multiprocessing's shared number

METHOD = "/tilestream.v1.SegmentationService/StreamSegment"
WARMUP = 1.0  # seconds
FIRST_FRAMES = 6  # of each camera: new sessions come into the steps little by little
PROFILE_LINES = 45


async def camera(
    channel: grpc.aio.Channel, config: bytes, jpegs: list[bytes], in_flight: int, answered: Counter
) -> None:
    """Stream until cancelled; messages are bytes that nobody parses."""
    call = channel.stream_stream(METHOD)()
    await call.write(config)
    await call.read()
    for frame_id in range(1 << 30):
        frame = pb.Frame(frame_id=frame_id, capture_time_us=frame_id, data=jpegs[frame_id % len(jpegs)])
        await call.write(pb.StreamSegmentRequest(frame=frame).SerializeToString())
        if frame_id >= in_flight - 1:
            if await call.read() is grpc.aio.EOF:
                raise RuntimeError("the stream ended")
            answered.value += 1


async def cameras(address: str, count: int, jpegs: list[bytes], in_flight: int, answered: Counter) -> None:
    """As many as ``count``, four a connection."""
    session = pb.SessionConfig(mask_encoding=pb.MASK_ENCODING_RLE, frames_in_flight=in_flight)
    config = pb.StreamSegmentRequest(config=session).SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(-(-count // 4))]
    streams = (camera(channels[n // 4], config, jpegs, in_flight, answered) for n in range(count))
    await asyncio.gather(*streams)


def _send(address: str, count: int, jpegs: list[bytes], in_flight: int, answered: Counter) -> None:
    asyncio.run(cameras(address, count, jpegs, in_flight, answered))


class Server:
    """A server of one version of the product, whose checkout is ``source``. ``settings``: more of its own."""

    def __init__(
        self, source: Path, arguments: argparse.Namespace, stack: ExitStack, **settings: object
    ) -> None:
        self.source = source
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._metrics: dict[str, float] = {}
        width, height = arguments.size.split("x")
        where = "process" if arguments.process else "thread"
        command = [sys.executable, "-m", "bench.frontend_server", width, height]
        command += [str(arguments.step_ms / 1e3), where]
        flags = {"max-sessions": 256, "media-threads": arguments.media_threads, "service-level": 30}
        flags |= {"min-block-budget": 1.0, "log-level": "warning", "max-frames-in-flight": 16}
        flags |= {key.replace("_", "-"): value for key, value in settings.items()}
        paths = [source / "server", source / "client/python", *sys.path]
        environment = {**os.environ, FOLDER: str(self._folder)}
        environment["PYTHONPATH"] = ":".join(str(path) for path in paths if path)
        words = [f"--{key}={value}" for key, value in flags.items()]
        started = server_process(self._folder, *words, command=command, environment=environment)
        self._process: Popen[bytes]
        self._process, port = stack.enter_context(started)
        self.address = f"127.0.0.1:{port}"

    def thread_seconds(self) -> dict[str, float]:
        """CPU seconds so far by kind of thread."""
        return dict(json.loads(self._answer(signal.SIGUSR1, "state")))

    def profile(self, seconds: float) -> pstats.Stats:
        """Of the event loop's thread."""
        self._process.send_signal(signal.SIGUSR2)
        time.sleep(seconds)
        self._answer(signal.SIGUSR2, "profile")
        return pstats.Stats(str(self._folder / "profile"))

    def _answer(self, number: signal.Signals, name: str) -> str:
        path = self._folder / name
        path.unlink(missing_ok=True)
        self._process.send_signal(number)
        while not path.exists():
            time.sleep(0.01)
        return path.read_text(errors="replace")


@contextmanager
def loaded(server: Server, arguments: argparse.Namespace, jpegs: list[bytes]) -> Iterator[Counter]:
    """Cameras stream meanwhile; yields how many frames were answered."""
    spawn = multiprocessing.get_context("spawn")
    answered: Counter = spawn.RawValue("Q", 0)
    words = (server.address, arguments.cameras, jpegs, arguments.in_flight, answered)
    process = spawn.Process(target=_send, args=words, daemon=True)
    process.start()
    try:
        while answered.value < FIRST_FRAMES * arguments.cameras:
            if not process.is_alive():
                raise RuntimeError("the cameras ended")
            time.sleep(0.01)
        time.sleep(WARMUP)
        yield answered
    finally:
        process.kill()
        process.join()


def watch(servers: list[Server], answered: list[Counter], seconds: float) -> list[dict[str, float]]:
    """CPU milliseconds per frame by kind of thread, and frames/s, of each server."""
    begin = time.monotonic()
    frames, before = [count.value for count in answered], [server.thread_seconds() for server in servers]
    time.sleep(seconds)
    passed, rows = time.monotonic() - begin, []
    for server, count, first, used in zip(servers, answered, frames, before, strict=True):
        done, after = count.value - first, server.thread_seconds()
        spent = {kind: (after[kind] - used.get(kind, 0.0)) / done * 1e3 for kind in after}
        rows.append(spent | {"all": sum(spent.values()), "fps": done / passed})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--cameras", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--step-ms", type=float, default=200.0, help="that a step of the engine sleeps")
    parser.add_argument("--media-threads", type=int, default=2)
    parser.add_argument("--process", action="store_true", help="the engine is a process")
    parser.add_argument("--source", type=Path, action="append", help="checkouts to compare; or this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--profile", action="store_true", help="the event loop's thread instead")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    jpegs = encode([street(width, height).frame(APART * index).image for index in range(MASKS)])
    sources = arguments.source or [Path(__file__).parents[1]]
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        servers = [Server(source.resolve(), arguments, stack) for source in sources]
        if arguments.profile:
            with loaded(servers[0], arguments, jpegs):
                servers[0].profile(arguments.seconds).sort_stats("tottime").print_stats(PROFILE_LINES)
            return
        answered = [stack.enter_context(loaded(server, arguments, jpegs)) for server in servers]
        for _ in range(arguments.rounds):
            for server, row in zip(servers, watch(servers, answered, arguments.seconds), strict=True):
                rows[str(server.source)].append(row)
                print(server.source.name, {kind: round(value, 3) for kind, value in row.items()}, flush=True)
    medians = {source: _medians(turns) for source, turns in rows.items()}
    print(json.dumps(medians, indent=2))
    if arguments.json:
        facts: dict[str, Any] = {"command": sys.argv[1:], "machine": machine()}
        arguments.json.write_text(json.dumps(facts | {"ms_per_frame": medians}, indent=2) + "\n")


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {kind: round(statistics.median(row[kind] for row in turns), 3) for kind in turns[0]}


if __name__ == "__main__":
    main()
