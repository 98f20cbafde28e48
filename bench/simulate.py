"""One GPU and a thousand cameras on a virtual clock: the real scheduler, an engine that only costs time.

The engine's speed is assumed (see the flags), and everything that follows from it is a simulation. What is
real is the scheduler's own CPU time.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.turns import write_result
from tilestream.scheduling.scheduler import Limits
from tilestream.scheduling.simulation import Record, Simulation, VirtualCamera, VirtualEngine
from tilestream.sessions.session import phase_of

WIDTH, HEIGHT, MARGIN = 900, 190, 60  # of one curve, pixels
PANELS = (
    ("frames per second", "fps", (180, 90, 20)),
    ("latency p50 (thin) and p99, ms", "p99_ms", (40, 40, 200)),
    ("mean budget", "budget", (60, 140, 40)),
    ("dropped frames per second", "drops", (20, 20, 20)),
)


def shape(kind: str, seconds: float, chance: random.Random) -> Callable[[float], float]:
    """How a camera's rate changes over the run."""
    if kind == "night":  # one day in the run: quiet, rush hour, quiet
        return lambda now: 0.15 + 0.85 * math.sin(math.pi * min(now / seconds, 1.0)) ** 2
    if kind == "burst":
        return lambda now: 2.0 if 0.4 * seconds < now < 0.6 * seconds else 0.7
    if kind == "stalls":
        period, phase = chance.uniform(10, 40), chance.uniform(0, 40)
        return lambda now: 0.0 if (now + phase) % period < 0.2 * period else 1.0
    return lambda now: 1.0


def cameras(arguments: argparse.Namespace, kind: str) -> list[VirtualCamera]:
    """So many cameras, joining over the first tenth of the run."""
    chance = random.Random(1)
    found = []
    for index in range(arguments.cameras):
        start = chance.uniform(0.0, 0.1 * arguments.seconds)
        fps = chance.choice((0.5, 1.0, 1.5)) * arguments.fps
        rate = shape(kind, arguments.seconds, chance)
        waits, phase = chance.random() < 0.3, phase_of(f"camera-{index}")
        found.append(VirtualCamera(fps, (start, math.inf), waits=waits, rate=rate, phase=phase))
    return found


def summary(record: Record, seconds: float) -> dict[str, Any]:
    """Numbers of a run, after the cameras have joined."""
    answers = record.between(0.2 * seconds, seconds)
    latencies = np.array([answer.latency for answer in answers])
    per_camera: dict[int, int] = {}
    for answer in answers:
        per_camera[answer.camera] = per_camera.get(answer.camera, 0) + 1
    return {
        "fps": round(len(answers) / (0.8 * seconds), 1),
        "p50_ms": round(1e3 * float(np.quantile(latencies, 0.5)), 1),
        "p99_ms": round(1e3 * float(np.quantile(latencies, 0.99)), 1),
        "budget": round(float(np.mean([answer.budget for answer in answers])), 3),
        "drop_share": round(len(record.drops) / (len(record.drops) + len(record.answered)), 4),
        "refusals": len(record.refusals),
        "engine_busy": round(record.busy_seconds / seconds, 3),
        "frames_per_step": round(len(record.answered) / record.steps, 2),
        "scheduler_cpu_ms_per_1000_frames": round(1e6 * record.scheduler_seconds / len(record.answered), 2),
    }


def curves(record: Record, seconds: float) -> dict[str, list[float]]:
    """What a second of the run looked like, second by second."""
    found: dict[str, list[float]] = {"fps": [], "p50_ms": [], "p99_ms": [], "budget": [], "drops": []}
    drops = np.array([at for at, _ in record.drops])
    bins: list[list[Any]] = [[] for _ in range(math.ceil(seconds))]
    for answer in record.answered:
        if answer.at < seconds:
            bins[int(answer.at)].append(answer)
    for second, answers in enumerate(bins):
        latencies = [1e3 * answer.latency for answer in answers] or [0.0]
        found["fps"].append(len(answers))
        found["p50_ms"].append(float(np.quantile(latencies, 0.5)))
        found["p99_ms"].append(float(np.quantile(latencies, 0.99)))
        found["budget"].append(float(np.mean([answer.budget for answer in answers])) if answers else 0.0)
        found["drops"].append(float(((drops >= second) & (drops < second + 1)).sum()))
    return found


def plot(found: dict[str, list[float]], path: Path) -> None:
    """Four curves, one below the other, as a PNG."""
    picture = np.full((len(PANELS) * HEIGHT + 20, WIDTH + 2 * MARGIN, 3), 255, np.uint8)
    for row, (title, name, colour) in enumerate(PANELS):
        top = row * HEIGHT + 30
        height = HEIGHT - 50
        largest = max(*found[name], 1.0)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, f"{title} (top: {largest:.4g})", (MARGIN, top - 8), font, 0.45, (0, 0, 0), 1)
        cv2.rectangle(picture, (MARGIN, top), (MARGIN + WIDTH, top + height), (200, 200, 200), 1)
        lines = [(name, 2)] + ([("p50_ms", 1)] if name == "p99_ms" else [])
        for line, thickness in lines:
            values = np.array(found[line]) / largest
            x = MARGIN + np.linspace(0, WIDTH, len(values))
            points = np.stack([x, top + height * (1.0 - np.clip(values, 0, 1))], axis=1).astype(np.int32)
            cv2.polylines(picture, [points], False, colour, thickness, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)


def main() -> None:
    """Run every load shape and write results and plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=1000)
    parser.add_argument("--fps", type=float, default=1.0, help="mean frames per second of a camera")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--shapes", nargs="+", default=["steady", "burst", "night", "stalls"])
    parser.add_argument("--fixed-ms", type=float, default=1.0, help="assumed: of a step")
    parser.add_argument("--frame-ms", type=float, default=0.2, help="assumed: of a frame by itself, 480x360")
    parser.add_argument("--whole-ms", type=float, default=1.0, help="assumed: of a whole frame, 480x360")
    parser.add_argument("--output", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args()
    pixels = 0.1728
    engine = VirtualEngine(
        fixed=arguments.fixed_ms / 1e3,
        frame=arguments.frame_ms / 1e3 / pixels,
        whole=arguments.whole_ms / 1e3 / pixels,
        part=1.2 * arguments.whole_ms / 1e3 / pixels,
    )
    runs = {}
    for kind in arguments.shapes:
        record = Simulation(cameras(arguments, kind), engine, Limits()).run(arguments.seconds)
        runs[kind] = summary(record, arguments.seconds)
        print(kind, runs[kind], flush=True)
        plot(curves(record, arguments.seconds), arguments.output / f"simulate_{kind}.png")
    write_result(
        "simulate",
        "python -m bench.simulate " + " ".join(sys.argv[1:]),
        {"assumed": vars(arguments) | {"output": str(arguments.output)}, "runs": runs},
    )


if __name__ == "__main__":
    main()
