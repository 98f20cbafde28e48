"""What computing only some of the bins saves: engine time against the same network dense, frame by frame.

A moving synthetic street is played through one session per keep ratio, and through the dense executor, in
turns. The bins are the ones that the budget gate chooses in that clip; motion, distortion, gate, tables and
labels are part of the engine's time. ``labels only``: the same under a gate that reuses no features.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.turns import Timing, as_records, take_turns, write_result
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.device import choose_device
from tilestream.engine.gates.gate import Gate
from tilestream.engine.gates.rules import BudgetGate, EveryKGate
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.precision import choose_precision
from tilestream.messages import Frame, FrameStats, Grant, Picture, SessionSpec, UInt8Array
from tilestream.models import list_models, load_model
from tilestream_street import SyntheticStreet
from tilestream_training.rivals import openvino

SIZES = ((360, 480), (720, 960), (720, 1280))
RATIOS = (1.0, 0.5, 0.33, 0.25, 0.1, 0.0)
CLIP_FRAMES, CLIP_SEED = 10, 12
ALWAYS_PACKED = 2.0  # a threshold that no keep ratio reaches: never compute a partial frame densely
OVERHEAD = ("motion", "gate", "tables", "head")


@dataclass(slots=True)
class Session:
    """One session that computes a fixed share of the bins of every frame."""

    engine: ModelEngine
    clip: list[UInt8Array]
    ratio: float
    position: int = 0
    stats: list[FrameStats] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine.open(SessionSpec(self.name, "", retain=True))

    @property
    def name(self) -> str:
        return f"{id(self)}"

    def work(self) -> tuple[Frame, Grant]:
        """The next frame. The clip is played forwards and backwards, so that it never jumps."""
        period = 2 * (len(self.clip) - 1)
        place = self.position % period
        self.position += 1
        image = self.clip[min(place, period - place)]
        return framed(self.name, image), Grant(self.ratio)

    def __call__(self) -> None:
        keep = {0.0: False, 1.0: True}.get(self.ratio)
        [outcome] = self.engine.step([self.work()], {} if keep is None else {self.name: keep})
        if outcome.stats is not None:
            self.stats.append(outcome.stats)


class WholeFrames:
    """A session of which every frame is computed in full, by itself."""

    def __init__(self, engine: ModelEngine, image: UInt8Array) -> None:
        self._engine, self._frame = engine, framed("whole", image, whole=True)
        engine.open(SessionSpec("whole", "", retain=True))

    def __call__(self) -> None:
        self._engine.step([(self._frame, Grant())])


def framed(session_id: str, image: UInt8Array, whole: bool = False) -> Frame:
    size = (image.shape[1], image.shape[0])
    return Frame(session_id, 0, Picture(*size, size, image), whole)


def street(width: int, height: int) -> list[UInt8Array]:
    """A few frames of a drive."""
    return [
        frame.image for frame in SyntheticStreet(CLIP_SEED, width=width, height=height).frames(CLIP_FRAMES)
    ]


def engine_for(
    name: str, precision: str, device: str, sessions: int, size: tuple[int, int], gate: Gate | None = None
) -> ModelEngine:
    """An engine with room for so many sessions."""
    network, place = load_model(name), choose_device(device)
    dtype = choose_precision(precision, place)[1]  # type: ignore[arg-type]
    mean, std = tuple(network.mean), tuple(network.std)  # type: ignore[arg-type]
    options = ReuseOptions(dense_above=ALWAYS_PACKED, store_bytes=64 << 20)
    probe = ModelEngine(network, place, dtype, mean, std, BudgetGate(), options).program
    room = 3 * sessions * probe.bytes_per_session(*size, torch.empty(0, dtype=dtype).element_size())
    options = ReuseOptions(dense_above=ALWAYS_PACKED, store_bytes=room)
    return ModelEngine(network, place, dtype, mean, std, gate or BudgetGate(), options)


def measure(
    name: str, size: tuple[int, int], precision: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """All keep ratios of one network at one size."""
    height, width = size
    clip = street(width, height)
    engine = engine_for(name, precision, arguments.device, len(RATIOS) + 1, size)
    sessions = {ratio: Session(engine, clip, ratio) for ratio in RATIOS}
    place = choose_device(arguments.device)
    dense = DenseExecutor(load_model(name), place, choose_precision(precision, place)[1], engine.program)  # type: ignore[arg-type]
    contenders: dict[str, Callable[[], object]] = {"dense": lambda: dense.labels(clip[0])}
    contenders["whole frame"] = WholeFrames(engine, clip[0])
    labels_only = engine_for(name, precision, arguments.device, 0, size, EveryKGate())
    contenders["labels only, whole frame"] = WholeFrames(labels_only, clip[0])
    contenders["labels only, 0%"] = Session(labels_only, clip, 0.0)
    contenders |= {f"{ratio:.0%}": session for ratio, session in sessions.items()}
    if arguments.openvino and size == (720, 960) and precision == "bf16":
        contenders["OpenVINO bf16 dense"] = openvino(load_model(name), clip[0], "bf16")
    timings = take_turns(contenders, arguments.rounds, arguments.calls, warmup=6)
    show(f"{name} {width}x{height} {precision}", timings)
    reference = timings["dense"].median_ms
    return {
        "model": name,
        "width": width,
        "height": height,
        "precision": precision,
        "timings": as_records(timings),
        "speedup": {key: round(reference / timing.median_ms, 2) for key, timing in timings.items()},
        "macs_share": {f"{r:.0%}": _macs_share(s, engine) for r, s in sessions.items()},
        "overhead_share_of_dense": {
            f"{r:.0%}": {part: round(_seconds(s, part) * 1e3 / reference, 4) for part in OVERHEAD}
            for r, s in sessions.items()
        },
        "bytes_per_session": engine.program.bytes_per_session(height, width, 4 if precision == "fp32" else 2),
        "bytes_in_use_per_session": _in_use(engine, sessions),
    }


def _in_use(engine: ModelEngine, sessions: dict[float, Session]) -> dict[str, int]:
    if engine.features is None:
        return {}
    used = engine.features.store.usage().per_session
    return {f"{ratio:.0%}": used[session.name] for ratio, session in sessions.items()}


def _seconds(session: Session, part: str) -> float:
    return median(stats.stage_seconds.get(part, 0.0) for stats in session.stats if not stats.whole)


def _macs_share(session: Session, engine: ModelEngine) -> float:
    bins = int(np.prod(engine.program.bins(*session.clip[0].shape[:2])))
    whole = sum(stage.macs for stage in engine.program.stages) * bins
    return round(median(stats.macs for stats in session.stats if not stats.whole) / whole, 3)


def together(name: str, precision: str, arguments: argparse.Namespace, count: int = 8) -> dict[str, Any]:
    """So many sessions in one step against one after the other, 25 % kept, 480x360."""
    height, width = SIZES[0]
    clip = street(width, height)
    engine = engine_for(name, precision, arguments.device, 2 * count, SIZES[0])
    # Cameras do not move in step: each one is somewhere else in the clip.
    batch, alone = ([Session(engine, clip, 0.25, index) for index in range(count)] for _ in range(2))

    def one_by_one() -> None:
        for session in alone:
            session()

    def in_one_step() -> None:
        engine.step([session.work() for session in batch])

    timings = take_turns(
        {"one by one": one_by_one, "in one step": in_one_step}, arguments.rounds, 2, warmup=4
    )
    ratio = timings["one by one"].median_ms / timings["in one step"].median_ms
    show(f"{name} {count} sessions {width}x{height} {precision}", timings)
    return {
        "model": name,
        "sessions": count,
        "precision": precision,
        "timings": as_records(timings),
        "throughput_ratio": round(ratio, 3),
    }


def show(title: str, timings: dict[str, Timing]) -> None:
    """A table for people."""
    first = next(iter(timings.values())).median_ms
    print(f"\n{title}\n{'':24}{'median ms':>10}{'min':>9}{'speed-up':>10}")
    for name, timing in timings.items():
        print(
            f"{name:24}{timing.median_ms:>10.2f}{timing.min_ms:>9.2f}{first / timing.median_ms:>10.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", action="append", help="default: all shipped")
    parser.add_argument("--openvino", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    precision, _ = choose_precision(arguments.precision, choose_device(arguments.device))
    names = arguments.model or list_models()
    results = [measure(name, size, precision, arguments) for name in names for size in SIZES]
    batches = [together(name, precision, arguments) for name in names]
    body = {"threads": torch.get_num_threads(), "reuse": results, "together": batches}
    suffix = "" if arguments.device == "cpu" else f"_{choose_device(arguments.device).type}"
    path = write_result(f"reuse_speed{suffix}", "python -m bench.reuse_speed " + " ".join(sys.argv[1:]), body)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
