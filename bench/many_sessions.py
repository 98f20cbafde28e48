"""A real server with many sessions, end to end, against the bare engine stepping as many: frames/s.

All sessions stream the same clip as fast as they get answers, at a fixed budget; the bare engine steps one
frame of each of them at a time, already decoded, in this process. The two take turns. The clients (JPEG out,
PNG masks in and decoded) share the machine's cores with the server, so their work counts against it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.overload import clip
from bench.stills_through_server import NO_LIMITS
from bench.turns import write_result
from tilestream.engine import EngineOptions, create_engine
from tilestream.media.jpeg import decode_picture, read_picture
from tilestream.messages import Engine, Frame, Grant, Picture, SessionSpec, StepPlan
from tilestream_client import AsyncClient
from tools.server_process import serving


def bare_fps(engine: Engine, model: str, pictures: list[Picture], sessions: int, budget: float) -> float:
    """Frames/s of steps with one frame of every session each, the first step (whole frames) included."""
    names = [f"s{index}" for index in range(sessions)]
    for name in names:
        engine.open(SessionSpec(name, model))
    started = time.perf_counter()
    for index, picture in enumerate(pictures):
        plan = StepPlan(tuple((Frame(name, index, picture), Grant(budget)) for name in names))
        for outcome in engine.step(plan):
            assert outcome.labels is not None, outcome.failure
    seconds = time.perf_counter() - started
    for name in names:
        engine.release(name)
    return sessions * len(pictures) / seconds


async def served_fps(address: str, jpegs: list[bytes], sessions: int, in_flight: int) -> float:
    """Frames/s of all sessions together."""

    async def camera(client: AsyncClient) -> None:
        async for result in client.stream(iter(jpegs), frames_in_flight=in_flight):
            assert result.labels is not None, result.detail

    async with AsyncClient(address) as client:
        started = time.perf_counter()
        await asyncio.gather(*(camera(client) for _ in range(sessions)))
        return sessions * len(jpegs) / (time.perf_counter() - started)


def main() -> None:
    """Measure and write ``bench/results/many_sessions_MODEL.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--gate", default="every_k")
    parser.add_argument("--engines", type=int, default=0)
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--frames", type=int, default=12, help="of each session, per turn")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sessions, budget, gate = arguments.sessions, arguments.budget, arguments.gate
    with tempfile.TemporaryDirectory() as folder:
        jpegs = clip(Path(folder), arguments.frames)
    pictures = [decode_picture(read_picture(jpeg, NO_LIMITS, None, 1 << 30)) for jpeg in jpegs]
    engine = create_engine(EngineOptions(models=(arguments.model,), gate=gate))
    flags = ["--models", arguments.model, "--gate", gate, "--block-budget", str(budget)]
    flags += ["--min-block-budget", "1", "--max-step-seconds", "10", "--engines", str(arguments.engines)]
    bare, served = [], []
    with serving(*flags) as address:
        bare_fps(engine, arguments.model, pictures[:2], sessions, budget)
        asyncio.run(served_fps(address, jpegs[:2], sessions, arguments.in_flight))
        for _ in range(arguments.rounds):
            bare.append(bare_fps(engine, arguments.model, pictures, sessions, budget))
            served.append(asyncio.run(served_fps(address, jpegs, sessions, arguments.in_flight)))
    ratio = statistics.median(served) / statistics.median(bare)
    body = {
        "model": arguments.model,
        "sessions": sessions,
        "gate": gate,
        "budget": budget,
        "bare_fps": [round(v, 2) for v in bare],
        "served_fps": [round(v, 2) for v in served],
        "ratio_of_medians": round(ratio, 3),
    }
    path = write_result(
        f"many_sessions_{arguments.model}", "python -m bench.many_sessions " + " ".join(sys.argv[1:]), body
    )
    print(f"{body}\nwrote {path}")


if __name__ == "__main__":
    main()
