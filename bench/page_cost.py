"""What people who look at the page cost the server: CPU time of its own process, and a camera's share of it.

First a server whose engine computes nothing, with cameras at a fixed rate, so that its CPU time differs by
the viewers alone. Then (``--share``) one with the real network and a camera that sends as fast as answers
come: its frames per second of the server's CPU time, with a viewer and without. Viewers are in another
process, read all that browsers would (the sessions once a second, pictures as fast as they are given) and
draw nothing. No viewers, one and several take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from bench.frontend_cost import METHOD, Server
from bench.instant_engine import APART, MASKS, street
from bench.server_overhead import encode
from bench.turns import RESULTS, machine
from tilestream.v1 import segmentation_pb2 as pb
from tools.server_process import free_port, server_process

Counter = Any  # multiprocessing's shared number

_AGE = re.compile(rb'"age": ([\d.e-]+)')
_CHUNK = 4096  # bytes
_FRAME = re.compile(rb'"frame_id": (\d+)')

SETTLE = 3.0  # seconds after viewers came or went


async def camera(
    channel: grpc.aio.Channel, name: str, jpegs: list[bytes], rate: float, answered: Counter
) -> None:
    """Stream until cancelled, ``rate`` frames/s, or as fast as answers come where that is 0."""
    call = channel.stream_stream(METHOD)()
    session = pb.SessionConfig(camera_id=name, frames_in_flight=2)
    await call.write(pb.StreamSegmentRequest(config=session).SerializeToString())
    await call.read()
    begin = time.monotonic()
    for frame_id in range(1 << 30):
        if rate:
            await asyncio.sleep(max(0.0, begin + frame_id / rate - time.monotonic()))
        frame = pb.Frame(frame_id=frame_id, data=jpegs[frame_id % len(jpegs)])
        await call.write(pb.StreamSegmentRequest(frame=frame).SerializeToString())
        await call.read()
        answered.value += 1


async def viewer(page: str, key: str, seen: Counter) -> None:
    """Look until cancelled, at one of the cameras."""
    async with aiohttp.ClientSession() as http:

        async def sessions() -> list[Any]:
            async with http.get(f"{page}api/sessions", params={"viewer": key}) as answer:
                return list((await answer.json())["sessions"])

        async def list_them() -> None:
            while True:
                await sessions()

        rows = await sessions()
        address = f"{page}api/sessions/{rows[hash(key) % len(rows)]['session']}/picture"
        listing = asyncio.ensure_future(list_them())
        after = -1
        while not listing.done():
            async with http.get(address, params={"viewer": key, "after": after}) as answer:
                answer.raise_for_status()
                found = _FRAME.search(await answer.read())
            if found:
                after = int(found[1])
                seen.value += 1
        await listing


async def slow_viewer(page: str, bytes_per_second: float, seconds: float) -> list[float]:
    """How old each picture was when it had been read, seconds after its labels came."""
    ages, after, end = [], -1, time.monotonic() + seconds
    async with aiohttp.ClientSession(read_bufsize=_CHUNK) as http:
        async with http.get(f"{page}api/sessions", params={"viewer": "slow-viewer"}) as answer:
            session = (await answer.json())["sessions"][0]["session"]
        address = f"{page}api/sessions/{session}/picture"
        while time.monotonic() < end:
            async with http.get(address, params={"viewer": "slow-viewer", "after": after}) as answer:
                begin, body = time.monotonic(), b""
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    body += chunk
                    await asyncio.sleep(len(chunk) / bytes_per_second)
            if (found := _FRAME.search(body)) and (age := _AGE.search(body)):
                after = int(found[1])
                ages.append(float(age[1]) + time.monotonic() - begin)
    return ages


def _send(server: str, count: int, jpegs: list[bytes], rate: float, answered: Counter) -> None:
    async def all_of_them() -> None:
        channel = grpc.aio.insecure_channel(server)
        await asyncio.gather(*(camera(channel, f"c{n}", jpegs, rate, answered) for n in range(count)))

    asyncio.run(all_of_them())


def _look(page: str, count: int, seen: Counter) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(viewer(page, f"viewer-{n:03}", seen) for n in range(count)))

    asyncio.run(all_of_them())


@contextmanager
def beside(target: Any, *words: Any) -> Iterator[Counter]:
    """A process meanwhile; yields what it counts."""
    spawn = multiprocessing.get_context("spawn")
    counted: Counter = spawn.RawValue("Q", 0)
    process = spawn.Process(target=target, args=(*words, counted), daemon=True)
    process.start()
    try:
        yield counted
    finally:
        process.kill()
        process.join()


@contextmanager
def looked_at(page: str, viewers: int) -> Iterator[Counter | None]:
    """So many viewers meanwhile, who have seen something already."""
    if not viewers:
        time.sleep(SETTLE)
        yield None
        return
    with beside(_look, page, viewers) as seen:
        while seen.value < 2 * viewers:
            time.sleep(0.05)
        time.sleep(SETTLE)
        yield seen


def turn(page: str, viewers: int, seconds: float, answered: Counter, server: Server) -> dict[str, float]:
    """Frames/s of all cameras, pictures/s of a viewer, and the server's share of a core by kind of thread."""
    with looked_at(page, viewers) as seen:
        frames, pictures = answered.value, seen.value if seen else 0
        used, begin = server.thread_seconds(), time.monotonic()
        time.sleep(seconds)
        after, passed = server.thread_seconds(), time.monotonic() - begin
        shown = (seen.value - pictures) / viewers if seen else 0.0
        row = {kind: (value - used.get(kind, 0.0)) / passed for kind, value in after.items()}
        return row | {
            "all": sum(row.values()),
            "fps": (answered.value - frames) / passed,
            "pictures": shown / passed,
        }


def in_turns(
    page: str, arguments: argparse.Namespace, answered: Counter, server: Server
) -> dict[int, list[dict[str, float]]]:
    """The rows of every number of viewers."""
    rows: dict[int, list[dict[str, float]]] = {viewers: [] for viewers in arguments.viewers}
    for _ in range(arguments.rounds):
        for viewers, found in rows.items():
            found.append(turn(page, viewers, arguments.seconds, answered, server))
            print(viewers, {kind: round(value, 4) for kind, value in found[-1].items()}, flush=True)
    return rows


def summary(rows: dict[int, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, and what one viewer adds: the median of the differences within rounds."""
    facts: dict[str, Any] = {}
    for viewers, found in rows.items():
        medians: dict[str, Any] = {
            kind: round(statistics.median(row[kind] for row in found), 4) for kind in found[0]
        }
        facts[str(viewers)] = medians
        if viewers:
            more = [(row["all"] - base["all"]) / viewers for row, base in zip(found, rows[0], strict=True)]
            kept = [row["fps"] / base["fps"] for row, base in zip(found, rows[0], strict=True)]
            medians["core_per_viewer"] = round(statistics.median(more), 4)
            medians["fps_with_over_without"] = round(statistics.median(kept), 4)
            medians["fps_range"] = [round(min(kept), 4), round(max(kept), 4)]
    return facts


def cost(arguments: argparse.Namespace, jpegs: list[bytes]) -> dict[str, Any]:
    """The server's CPU time, by an engine that computes nothing."""
    port = free_port()
    with ExitStack() as stack:
        source = Path(__file__).parents[1]
        server = Server(source, arguments, stack, web_port=port, web_frames=True, web_viewers=64)
        words = (server.address, arguments.cameras, jpegs, arguments.rate)
        answered = stack.enter_context(beside(_send, *words))
        if arguments.slow:
            while answered.value < 10 * arguments.cameras:
                time.sleep(0.05)
            page = f"http://127.0.0.1:{port}/"
            ages = asyncio.run(slow_viewer(page, arguments.slow, arguments.seconds))
            half = len(ages) // 2
            return {
                "pictures_per_second": round(len(ages) / arguments.seconds, 2),
                "age_first_half": round(statistics.median(ages[:half]), 2),
                "age_second_half": round(statistics.median(ages[half:]), 2),
                "oldest": round(max(ages), 2),
            }
        return summary(in_turns(f"http://127.0.0.1:{port}/", arguments, answered, server))


def share_left(page: str, process: int, arguments: argparse.Namespace, answered: Counter) -> dict[str, Any]:
    """Frames per second of the server's CPU time with a viewer, relative to those without one."""
    pairs = []
    for _ in range(arguments.rounds):
        rates = []
        for viewers in (0, 1):
            with looked_at(page, viewers):
                begin, used = _next(answered), cpu_seconds(process)
                time.sleep(arguments.seconds)
                end, after = _next(answered), cpu_seconds(process)
                rates.append((end - begin) / (after - used))
        pairs.append(rates[1] / rates[0])
        print([round(rate, 3) for rate in rates], round(pairs[-1], 4), flush=True)
    quartiles = [round(value, 4) for value in statistics.quantiles(pairs)]
    return {"left_of_its_share": round(statistics.median(pairs), 4), "quartiles": quartiles}


def _next(answered: Counter) -> int:
    """How many frames are answered, as soon as one more is."""
    count = int(answered.value)
    while answered.value == count:
        time.sleep(0.001)
    return count + 1


def cpu_seconds(process: int) -> float:
    """Of all its threads so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(arguments: argparse.Namespace, jpegs: list[bytes]) -> dict[str, Any]:
    """What a viewer leaves of its share to a camera that takes all there is."""
    port = free_port()
    flags = ("--web-port", str(port), "--web-frames", "--threads", "1", "--log-level", "warning")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        process, grpc_port = stack.enter_context(server_process(Path(folder), *flags))
        answered = stack.enter_context(beside(_send, f"127.0.0.1:{grpc_port}", 1, jpegs, 0.0))
        return share_left(f"http://127.0.0.1:{port}/", process.pid, arguments, answered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--rate", type=float, default=15.0, help="frames/s of a camera")
    parser.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 10])
    parser.add_argument("--share", action="store_true", help="the real network, one camera")
    parser.add_argument("--slow", type=float, default=0.0, help="one viewer who reads so many bytes/s")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--json", type=Path, default=RESULTS / "page_cost.json")
    parser.set_defaults(process=False, step_ms=1.0, media_threads=2)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    jpegs = encode([street(width, height).frame(APART * index).image for index in range(MASKS)])
    facts = share(arguments, jpegs) if arguments.share else cost(arguments, jpegs)
    print(json.dumps(facts, indent=2))
    known: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        known = json.loads(arguments.json.read_text())
    known["share" if arguments.share else "slow" if arguments.slow else "cost"] = {
        "command": sys.argv[1:],
        "machine": machine(),
        **facts,
    }
    arguments.json.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
