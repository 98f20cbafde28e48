"""Taking turns: every contender runs a little in every round, so that all meet the same weather."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds per call."""

    median_ms: float
    min_ms: float
    p90_ms: float
    calls: int


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, calls: int, warmup: int = 3
) -> dict[str, Timing]:
    """Time each contender ``calls`` times in each of ``rounds`` rounds, after ``warmup`` untimed calls."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        for _ in range(warmup):
            run()
    for _ in range(rounds):
        for name, run in contenders.items():
            for _ in range(calls):
                started = time.perf_counter()
                run()
                samples[name].append((time.perf_counter() - started) * 1e3)
    return {name: summarise(values) for name, values in samples.items()}


def summarise(milliseconds: list[float]) -> Timing:
    """Median, minimum and 90th percentile."""
    ordered = sorted(milliseconds)
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return Timing(round(statistics.median(ordered), 2), round(ordered[0], 2), round(p90, 2), len(ordered))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
        flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {"cpu": model, "cores": os.cpu_count(), "instructions": [flag for flag in wanted if flag in flags]}


def write_result(name: str, command: str, body: Mapping[str, Any]) -> Path:
    """Write ``bench/results/NAME.json``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine(), **body}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def as_records(timings: Mapping[str, Timing]) -> dict[str, dict[str, float]]:
    """Timings as plain dictionaries, for JSON."""
    return {name: asdict(timing) for name, timing in timings.items()}
