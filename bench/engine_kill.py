"""How long streams stand still when the engine's process is killed under load.

Cameras stream by the clock against a real server with its engine in a process of its own; the engine is
killed (SIGKILL) once another one stands by. Counted: from the kill to the first mask of a frame that was sent
after it, for each stream; and what became of the frames.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from bench.overload import by_the_clock, clip
from bench.turns import write_result
from tilestream_client import AsyncClient
from tilestream_client.sources import Frame
from tools.server_process import server_process


@dataclass(slots=True)
class Camera:
    """What one stream saw; times are monotonic seconds."""

    sent_at: list[float] = field(default_factory=list)
    answered: list[tuple[int, float, bool]] = field(default_factory=list)  # frame, when, with a mask

    def standstill(self, kill: float) -> float:
        """Seconds from the kill to the first mask of a frame sent after it."""
        return next(at for frame, at, ok in self.answered if ok and self.sent_at[frame] > kill) - kill


async def stream(address: str, jpegs: list[bytes], fps: float, seconds: float, camera: Camera) -> None:
    """Play the clip over and over."""

    async def frames() -> AsyncIterator[Frame]:
        again_and_again = islice(cycle(jpegs), round(seconds * fps))
        async for frame in by_the_clock(again_and_again, fps, time.monotonic()):
            camera.sent_at.append(time.monotonic())
            yield frame

    async with AsyncClient(address, own_connection=True) as client:
        async for result in client.stream(frames(), queue_policy="drop-oldest", frames_in_flight=2):
            camera.answered.append((result.frame_id, time.monotonic(), result.ok))


def engine_processes(parent: int) -> list[int]:
    """Processes that were forked by the one that makes engines, oldest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    return sorted(engine for child in children.get(parent, []) for engine in children.get(child, []))


async def play(
    address: str, pid: int, jpegs: list[bytes], sessions: int, fps: float
) -> tuple[list[Camera], float]:
    """Stream, kill the engine in the middle, stream on; the cameras and when it was killed."""
    cameras = [Camera() for _ in range(sessions)]
    tasks = [asyncio.create_task(stream(address, jpegs, fps, 14.0, camera)) for camera in cameras]
    await asyncio.sleep(8.0)
    while len(engines := engine_processes(pid)) < 2:
        await asyncio.sleep(0.1)
    kill = time.monotonic()
    os.kill(engines[0], signal.SIGKILL)
    await asyncio.gather(*tasks)
    return cameras, kill


def main() -> None:
    """Measure and write ``bench/results/engine_kill.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--fps", type=float, default=2.0, help="of each camera")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    standstills: list[float] = []
    sent = answered = masks = 0
    with tempfile.TemporaryDirectory() as folder:
        jpegs = clip(Path(folder))
        for _ in range(arguments.rounds):
            flags = ("--log-level", "warning", "--models", arguments.model, "--engines", "1")
            with server_process(Path(folder), *flags) as (process, port):
                here = f"127.0.0.1:{port}"
                playing = play(here, process.pid, jpegs, arguments.sessions, arguments.fps)
                cameras, kill = asyncio.run(playing)
            standstills += [camera.standstill(kill) for camera in cameras]
            sent += sum(len(camera.sent_at) for camera in cameras)
            answered += sum(len(camera.answered) for camera in cameras)
            masks += sum(ok for camera in cameras for _, _, ok in camera.answered)
    body = {
        "model": arguments.model,
        "sessions": arguments.sessions,
        "fps_each": arguments.fps,
        "standstill_seconds": {
            "median": round(statistics.median(standstills), 3),
            "max": round(max(standstills), 3),
        },
        "frames": {"sent": sent, "answered": answered, "with_mask": masks},
    }
    path = write_result("engine_kill", "python -m bench.engine_kill " + " ".join(sys.argv[1:]), body)
    print(f"{body}\nwrote {path}")


if __name__ == "__main__":
    main()
