"""The partial pass on the device against the same network dense: time per frame at shares of the bins.

    python -m bench.partial_pass --device cuda --sessions 64 --size 1280x720 --shares 1,0.5,0.25,0.1 --json F

Dense is the whole network with labels on the same frames, which already lie on the device: cuDNN,
channels-last, as many at a time as ``--batch``. Of the partial pass: ``all`` is a step as an engine runs it,
with the references' motion, the host's lists, tables, network and labels; ``network`` is the stages alone,
with tables that are made; ``tables`` is everything else. ``host`` is what of it the host is busy, so that a
step that waits for launches can be told from one that waits for the device; ``waits``, how often it waited
for the device within. Bins are chosen at random, which is the worst that they can lie. ``--profile`` ends
with the kernels that take longest at the last share.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.turns import machine
from tilestream.engine.arrays import Mask
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.device import choose_device
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.precision import choose_precision
from tilestream.engine.resident.partial.features import PAGES_PER_TILE, ResidentFeatures
from tilestream.engine.resident.partial.shared import ResidentProgram
from tilestream.models import load_model

STARTED_TOGETHER = 8  # whole frames whose features are stored at a time


def main() -> None:
    arguments = _parse()
    bench = Bench(arguments)
    result: dict[str, Any] = {"machine": machine(), "device": bench.name, **vars(arguments)}
    torch.backends.cudnn.benchmark = True  # the network at its best
    dense, _ = bench.timed(bench.dense)
    torch.backends.cudnn.benchmark = False
    result["dense_ms"] = dense
    print(f"{bench.name}, {arguments.sessions} sessions {arguments.size}, {bench.dtype}", flush=True)
    print(f"dense {dense:8.3f} ms a frame", flush=True)
    bench.start()
    print("ms a frame:\n share      all   tables  network     host  of dense", flush=True)
    result["shares"] = {}
    for share in (float(text) for text in arguments.shares.split(",")):
        row = bench.partial(share)
        row["of_dense"] = row["all_ms"] / dense
        result["shares"][str(share)] = row
        print(
            f"{share:6.2f}{row['all_ms']:9.3f}{row['tables_ms']:9.3f}{row['network_ms']:9.3f}"
            f"{row['host_ms']:9.3f}{row['of_dense']:10.3f}   {row['waits']:.0f} waits, "
            f"first step {row['first_seconds']:.1f} s",
            flush=True,
        )
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")
    if arguments.profile:
        print(bench.profile(share))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--precision", default="", help="fp16 on CUDA, else fp32, unless it is given")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT")
    parser.add_argument("--shares", default="1,0.5,0.25,0.1")
    parser.add_argument("--batch", type=int, default=32, help="frames that the dense network takes at a time")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="of every measurement, at most")
    parser.add_argument("--json", default="")
    parser.add_argument("--graphs", type=int, default=0, help="layouts of steps that become CUDA graphs")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


class Bench:
    """The network, its frames on the device, and a slot for each session."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.sessions, self.batch = arguments.sessions, arguments.batch
        self.repeats, self.seconds = arguments.repeats, arguments.seconds
        self.device = choose_device(arguments.device)
        cuda = self.device.type == "cuda"
        precision = arguments.precision or ("fp16" if cuda else "fp32")
        self.dtype = choose_precision(precision, self.device)[1]  # type: ignore[arg-type]
        self.name = torch.cuda.get_device_name() if cuda else "cpu"
        width, height = (int(side) for side in arguments.size.split("x"))
        network = load_model(arguments.model)
        self.program: TileProgram = lower(network)
        self._dense = DenseExecutor(network, self.device, self.dtype, self.program, keep=True)
        self._plain = DenseExecutor(network, self.device, self.dtype, self.program)
        itemsize = torch.empty(0, dtype=self.dtype).element_size()
        # what sessions hold, what one step adds, and room to copy some together
        room = (PAGES_PER_TILE + 2) * self.sessions * self.program.bytes_per_session(height, width, itemsize)
        mean, std = tuple(network.mean), tuple(network.std)  # type: ignore[arg-type]
        self._shared = ResidentProgram(self.program, mean, std, int(room), self.device, self.dtype)
        self._features = ResidentFeatures(
            self._shared, (height, width), self.sessions, graphs=arguments.graphs
        )
        self._slots = list(range(self.sessions))
        self._scale = thumbnail_scale(height, width)
        self._size = height, width
        self._random = np.random.default_rng(0)
        self._pixels = self._frames()
        shape = (self.sessions, -(-height // self._scale), -(-width // self._scale), 2)
        self._flow = torch.from_numpy(self._random.normal(0, 0.5, shape).astype(np.float32)).to(self.device)

    def dense(self) -> None:
        """All frames through the whole network."""
        for first in range(0, self.sessions, self.batch):
            _, scores = self._run_dense(self._plain, slice(first, first + self.batch))
            self._plain.labelled(scores, self._size, False)

    def start(self) -> None:
        """Features of whole frames for every slot."""
        for first in range(0, self.sessions, STARTED_TOGETHER):
            slots = self._slots[first : first + STARTED_TOGETHER]
            kept, _ = self._run_dense(self._dense, slice(first, first + STARTED_TOGETHER))
            if self._features.start(slots, kept):
                raise SystemExit("the features do not fit")

    def partial(self, share: float) -> dict[str, float]:
        """Times of the partial pass when this share of the bins is computed."""
        began = time.perf_counter()
        self._step(share)
        self._wait()
        first = time.perf_counter() - began
        everything, host = self.timed(lambda: self._step(share))
        plan = self._features.plan(self._slots, self._keep(share))
        step, tiles = self._features.begin(plan, self._pixels)
        network, _ = self.timed(lambda: self._shared.executor.run(step, tiles, False))
        self._features.finish(plan)
        return {
            "all_ms": everything,
            "network_ms": network,
            "tables_ms": everything - network,
            "host_ms": host,
            "first_seconds": first,
            "waits": self._waits(share),
        }

    def profile(self, share: float) -> str:
        """A table of the kernels of a step."""
        with torch.profiler.profile() as profiler:
            self._step(share)
            self._wait()
        order = "self_cuda_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        return profiler.key_averages().table(sort_by=order, row_limit=30, max_name_column_width=60)

    def _waits(self, share: float) -> int:
        """How often a step waits for the device."""
        if self.device.type != "cuda":
            return 0
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            self._step(share)
        torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(each.message) for each in found)

    def timed(self, run: Callable[[], object]) -> tuple[float, float]:
        """Milliseconds a frame, the median: until the device is done, and until the host is free."""
        for _ in range(3):
            run()
        self._wait()
        whole: list[float] = []
        host: list[float] = []
        deadline = time.perf_counter() + self.seconds
        while len(whole) < self.repeats and (not whole or time.perf_counter() < deadline):
            began = time.perf_counter()
            run()
            host.append(time.perf_counter() - began)
            self._wait()
            whole.append(time.perf_counter() - began)
        return median(whole) * 1e3 / self.sessions, median(host) * 1e3 / self.sessions

    def _step(self, share: float) -> None:
        self._features.move(self._slots, self._flow, self._scale)
        plan = self._features.plan(self._slots, self._keep(share))
        if plan.refused:
            raise SystemExit("there is no room for what is computed")
        self._features.run(plan, self._pixels)

    def _keep(self, share: float) -> Mask:
        rows, columns = self._features.bins
        count = max(1, round(share * rows * columns))
        order = self._random.random((self.sessions, rows * columns)).argsort(axis=1)
        chosen = (order < count).reshape(self.sessions, 1, rows, columns)
        return np.broadcast_to(chosen, (self.sessions, len(self.program.units), rows, columns))

    def _run_dense(self, executor: DenseExecutor, which: slice) -> tuple[dict[str, Tensor], Tensor]:
        with torch.inference_mode():
            pixels = self._pixels[which].float()
            view = (1, 3, 1, 1)
            x = pixels.mul_(self._shared.scale.view(view)).add_(self._shared.shift.view(view)).to(self.dtype)
            height, width = self.program.padded(*self._size)
            x = torch.nn.functional.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))
            *kept, scores = executor.network(x.contiguous(memory_format=torch.channels_last))
        names = [node.name for node in self.program.kept]
        return dict(zip(names, kept, strict=False)), scores

    def _frames(self) -> Tensor:
        height, width = self._size
        coarse = self._random.integers(
            0, 256, (self.sessions, 3, height // 16 + 1, width // 16 + 1), dtype=np.uint8
        )
        fine = torch.from_numpy(coarse).to(self.device)
        fine = fine.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
        return fine[:, :, :height, :width].contiguous()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
