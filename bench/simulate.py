"""One GPU and a thousand cameras on a virtual clock: the real scheduler, an engine that only costs time.

``--pinned``: instead, overload control against pinned budgets, for engines that charge for unlike things. The
engine's speed is assumed (see the flags), and everything that follows from it is a simulation. What is
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

import numpy as np
from matplotlib.figure import Figure

from bench.engine_prices import ENGINES, PINNED, settled, stream
from bench.simulation import Record, Simulation, VirtualCamera, VirtualEngine
from bench.turns import write_result
from tilestream.scheduling.scheduler import Limits
from tilestream.sessions.session import phase_of

PANELS = (
    ("frames per second", ("fps",)),
    ("latency, ms", ("p50_ms", "p99_ms")),
    ("mean budget", ("budget",)),
    ("dropped frames per second", ("drops",)),
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
    figure = Figure(figsize=(9, 8), layout="constrained")
    panels = figure.subplots(len(PANELS), sharex=True)
    for axes, (title, names) in zip(panels, PANELS, strict=True):
        for name in names:
            axes.plot(found[name], label=name)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    panels[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=100)


def against_pinned(cameras: list[int], seconds: float) -> list[dict[str, Any]]:
    """Rows of a table: engine by engine, cameras at 15 frames/s and the server that they stream to."""
    rows = []
    servers = (("pinned at 1", 1.0, PINNED), ("asks for 1", 1.0, Limits()), ("asks for 0.5", 0.5, Limits()))
    for name, prices in ENGINES.items():
        for count in cameras:
            for server, budget, limits in servers:
                record = stream(prices, count, 15.0, budget, limits, seconds)
                rows.append({"engine": name, "cameras": count, "server": server, **settled(record, seconds)})
                print("|", " | ".join(map(str, rows[-1].values())), "|", flush=True)
    return rows


def main() -> None:
    """Run every load shape, or every engine, and write results and plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=1000)
    parser.add_argument("--fps", type=float, default=1.0, help="mean frames per second of a camera")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--shapes", nargs="+", default=["steady", "burst", "night", "stalls"])
    parser.add_argument("--fixed-ms", type=float, default=1.0, help="assumed: of a step")
    parser.add_argument("--frame-ms", type=float, default=0.2, help="assumed: of a frame by itself, 480x360")
    parser.add_argument("--whole-ms", type=float, default=1.0, help="assumed: of a whole frame, 480x360")
    parser.add_argument("--output", type=Path, default=Path("bench/results"))
    parser.add_argument("--pinned", type=int, nargs="+", metavar="CAMERAS", help="against pinned budgets")
    arguments = parser.parse_args()
    if arguments.pinned:
        body = {"runs": against_pinned(arguments.pinned, arguments.seconds)}
        write_result("simulate_pinned", "python -m bench.simulate " + " ".join(sys.argv[1:]), body)
        return
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
