"""The engine alone, frames in, labels out: milliseconds per step and frame, by stage, for many sessions.

Each step has one frame of every session. Sessions begin at different phases and places of the clip, so that
their whole frames are spread over the steps as a server's are. Frames go in as JPEG bytes where the engine
takes those, else as pixels that were decoded before. ``ms_step`` is the median over the steps. ``ms_frame``
is all their time over all their frames: a session alone computes whole frames in a few of its steps only,
which a median would leave out. Times by stage are a frame's mean share; a device that works on while the host
goes ahead books its time to the stage that waits for it.

``--count``: the most of a few steps, taken after those that are timed. ``torch_ops``: operations that a
TorchDispatchMode sees; ``python_calls``: all calls that cProfile counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.clips import load_clip, parse_size
from bench.engine_cameras import Cameras, pictures_of, python_calls, torch_operations
from bench.turns import machine
from tilestream.engine import EngineOptions, create_engine
from tilestream.messages import (
    STAGES,
    Codec,
    Engine,
    EngineError,
    FrameStats,
)

COUNTED_STEPS = 4

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How to measure. ``counted``: also count what the host does."""

    budget: float
    steps: int
    warmup: int
    counted: bool = False


@dataclass(slots=True)
class Account:
    """What the timed steps took and told."""

    milliseconds: list[float] = field(default_factory=list)  # by step
    stats: list[FrameStats] = field(default_factory=list)

    def row(self, sessions: int) -> Row:
        """As it is written to JSON, milliseconds."""
        total, told = sum(self.milliseconds), max(1, len(self.stats))
        frames = sessions * len(self.milliseconds)
        stages: Counter[str] = Counter()
        for stats in self.stats:
            stages.update(stats.stage_seconds)
        names = [*STAGES, *sorted(set(stages) - set(STAGES))]
        return {
            "ms_step": round(statistics.median(self.milliseconds), 3),
            "ms_step_mean": round(total / len(self.milliseconds), 3),
            "ms_step_max": round(max(self.milliseconds), 3),
            "ms_frame": round(total / frames, 4),
            "fps": round(frames / total * 1e3, 2),
            "stages_ms": {name: round(stages[name] / told * 1e3, 4) for name in names},
            "whole_share": round(sum(stats.whole for stats in self.stats) / told, 4),
        }


def measure(cameras: Cameras, how: Measurement, synchronise: Callable[[], None]) -> Row:
    """Warm up, time, and count if asked to. ``synchronise``: waits for the device."""
    cameras.open()
    for _ in range(how.warmup):
        cameras.step(cameras.plan())
    account = Account()
    for _ in range(how.steps):
        plan = cameras.plan()
        synchronise()
        started = time.perf_counter()
        outcomes = cameras.step(plan)
        synchronise()
        account.milliseconds.append((time.perf_counter() - started) * 1e3)
        account.stats += [outcome.stats for outcome in outcomes if outcome.stats is not None]
    row = account.row(len(cameras))
    if how.counted:
        row["torch_ops"] = max(torch_operations(cameras) for _ in range(COUNTED_STEPS))
        row["python_calls"] = max(python_calls(cameras) for _ in range(COUNTED_STEPS))
    return row


def sizes_measured(engine: Engine, arguments: argparse.Namespace, save: Callable[[Row], None]) -> Row:
    """All rows by size and number of sessions; ``save`` gets them whenever there is one more."""
    takes_jpeg = Codec.JPEG in engine.info.takes
    as_jpeg = takes_jpeg if arguments.engine_takes is None else arguments.engine_takes == "jpeg"
    if as_jpeg and not takes_jpeg:
        raise SystemExit("this engine takes no JPEGs")
    how = Measurement(arguments.budget, arguments.steps, arguments.warmup, arguments.count)
    model = engine.info.models[0].name
    on_cuda = engine.info.device.startswith("cuda")
    sizes: Row = {}
    for text in arguments.size.split(","):
        size = parse_size(text)
        pictures = pictures_of(load_clip(arguments.frames, size), size, as_jpeg)
        rows = sizes[text] = {"frames_as": "jpeg" if as_jpeg else "pixels", "sessions": {}}
        for sessions in map(int, arguments.sessions.split(",")):
            evictions = engine.report().evictions
            cameras = Cameras(engine, model, pictures, sessions, how.budget)
            try:
                row = measure(cameras, how, torch.cuda.synchronize if on_cuda else _nothing)
                row["evictions"] = engine.report().evictions - evictions
            except (RuntimeError, EngineError) as error:  # the other rows are still wanted
                row = {"error": str(error)}
            finally:
                cameras.close()
            rows["sessions"][str(sessions)] = row
            print(line(text, sessions, row), flush=True)
            save(sizes)
    return sizes


def _nothing() -> None:
    """The CPU has done what was asked of it when a call returns."""


def heading() -> str:
    """Of the table."""
    columns = [*(f"{name:>9}" for name in STAGES), f"{'torch ops':>10}", f"{'calls':>8}"]
    return (
        f"{'size':>10} {'sessions':>8} {'ms/step':>9} {'ms/frame':>9} {'frames/s':>9} {'whole':>6} "
        + " ".join(columns)
    )


def line(size: str, sessions: int, row: Row) -> str:
    """Of the table; the stages are milliseconds per frame."""
    if "error" in row:
        return f"{size:>10} {sessions:>8} {row['error']}"
    cells = [f"{row['ms_step']:9.2f}", f"{row['ms_frame']:9.3f}", f"{row['fps']:9.1f}"]
    cells += [f"{row['whole_share']:6.2f}", *(f"{row['stages_ms'][name]:9.3f}" for name in STAGES)]
    cells += [f"{row.get('torch_ops', '-'):>10}", f"{row.get('python_calls', '-'):>8}"]
    return f"{size:>10} {sessions:>8} " + " ".join(cells)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--gate", default="learned")
    parser.add_argument("--budget", type=float, default=0.25)
    parser.add_argument("--sessions", default="1,8,64", help="numbers, comma-separated")
    parser.add_argument("--size", default="1280x720", help="sizes, comma-separated")
    parser.add_argument("--steps", type=int, default=24, help="that are timed")
    parser.add_argument("--warmup", type=int, default=8, help="steps before these")
    parser.add_argument("--count", action="store_true", help="also torch's operations and Python's calls")
    parser.add_argument("--frames", type=Path, help="folder of JPEGs; without: a drawn street")
    parser.add_argument("--engine-takes", choices=("jpeg", "pixels"), help="default: JPEGs if it can")
    parser.add_argument("--feature-memory", type=float, default=2.0, help="GiB for the sessions' features")
    parser.add_argument("--json", type=Path)
    return parser


def main(words: Sequence[str] | None = None) -> Row:
    """Measure, print a table and write ``--json``, also after every row."""
    arguments = parser().parse_args(words)
    engine = create_engine(
        EngineOptions(
            models=(arguments.model,),
            device=arguments.device,
            precision=arguments.precision,
            gate=arguments.gate,
            store_bytes=int(arguments.feature_memory * (1 << 30)),
        )
    )
    facts = {
        "command": " ".join(["python -m bench.gpu_path", *(sys.argv[1:] if words is None else words)]),
        "machine": machine(),
        "device": engine.info.device,
        "device_name": torch.cuda.get_device_name() if engine.info.device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "precision": engine.info.precision,
        "size": arguments.size,
        "gate": arguments.gate,
        "budget": arguments.budget,
    }
    print(f"{facts['device_name']}, torch {facts['torch']}, {facts['precision']}\n{heading()}", flush=True)

    def record(sizes: Row) -> Row:
        """``sessions``: those of the size named last."""
        return {**facts, "sessions": list(sizes.values())[-1]["sessions"], "sizes": sizes}

    def save(sizes: Row) -> None:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(record(sizes), indent=2) + "\n")

    try:
        return record(sizes_measured(engine, arguments, save))
    finally:
        engine.close()


if __name__ == "__main__":
    main()
