"""Many cameras against one server process: overload control against budgets that are pinned at 1, in turns.

Cameras send by the clock, at rates that make up a given share of what the machine computes in full. Client
and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from bench.server_overhead import encode, served_fps
from bench.turns import write_result
from tilestream_client import Client, Frame
from tilestream_street import SyntheticStreet
from tools.server_process import serving

PINNED = ("--block-budget", "1", "--min-block-budget", "1")


def clip(folder: Path, frames: int = 60) -> list[bytes]:
    """A drive at 480x360 as JPEG files in ``folder``; also returned."""
    street = SyntheticStreet(seed=7, width=480, height=360, fps=15.0)
    jpegs = encode([street.frame(t).image for t in range(frames)])
    for number, data in enumerate(jpegs):
        (folder / f"{number:04d}.jpg").write_bytes(data)
    return jpegs


def load(
    address: str, folder: Path, sessions: int, fps: float, seconds: float, warmup: float, in_flight: int
) -> dict[str, Any]:
    """One run of the load generator, in a process of its own; the first ``warmup`` seconds do not count."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "tilestream_client", "load", "--server", address]
        command += ["--sessions", str(sessions), "--fps", f"{fps:.4f}"]
        command += ["--seconds", str(warmup + seconds), "--warmup", str(warmup)]
        command += ["--video", str(folder), "--json", report.name, "--frames-in-flight", str(in_flight)]
        # Its status is 1 where frames went unanswered: that is a result here.
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        return dict(json.loads(Path(report.name).read_text()))


async def by_the_clock(jpegs: Iterable[bytes], fps: float, begin: float) -> AsyncIterator[Frame]:
    """The frames at the times at which they are due; ``begin``: monotonic seconds."""
    for index, jpeg in enumerate(jpegs):
        await asyncio.sleep(max(0.0, begin + index / fps - time.monotonic()))
        yield Frame(data=jpeg)


def main() -> None:
    """Measure and write ``bench/results/overload.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.9, 1.5, 3.0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--warmup", type=float, default=5.0, help="seconds of each run that do not count")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds, to let the server calm down")
    parser.add_argument("--gate", default="every_k")
    parser.add_argument("--in-flight", type=int, default=3, help="frames of a camera; one more is dropped")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jpegs = clip(folder)
        flags = ("--models", arguments.model, "--gate", arguments.gate)
        with serving(*flags, "--block-budget", "1") as ours, serving(*flags, *PINNED) as pinned:
            with Client(pinned) as client:
                served_fps(client, jpegs[:5], arguments.model, 2)
                capacity = served_fps(client, jpegs[:40], arguments.model, 2)[0]
            print(f"capacity {capacity:.1f} frames/s", flush=True)
            for sessions in arguments.sessions:
                for share in arguments.loads:
                    for kind, address in (("adaptive", ours), ("pinned", pinned)):
                        fps = share * capacity / sessions
                        time.sleep(arguments.pause)
                        report = load(
                            address,
                            folder,
                            sessions,
                            fps,
                            arguments.seconds,
                            arguments.warmup,
                            arguments.in_flight,
                        )
                        runs.append({"server": kind, "sessions": sessions, "load": share, **report})
                        print(kind, sessions, share, json.dumps(report)[:300], flush=True)
    write_result(
        "overload",
        "python -m bench.overload " + " ".join(sys.argv[1:]),
        {"model": arguments.model, "capacity_fps": round(capacity, 2), "runs": runs},
    )


if __name__ == "__main__":
    main()
