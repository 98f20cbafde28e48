"""A real server, end to end, against the bare model: how much of its frames/s survives the trip.

One session with a given number of frames in flight sends JPEGs over loopback and decodes the masks; the
bare model computes the same frames, already decoded, in this process, with as many threads. The two take
turns. The client shares the machine's cores with the server, so its work counts against the server here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import cv2
import numpy as np
import torch

from bench.turns import write_result
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.precision import choose_precision
from tilestream.messages import UInt8Array
from tilestream.models import load_model
from tilestream_client import Client, MaskEncoding
from tilestream_street import SyntheticStreet
from tools.server_process import serving


def encode(images: list[UInt8Array]) -> list[bytes]:
    """JPEGs of quality 90."""
    return [
        cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        for image in images
    ]


def bare_fps(executor: DenseExecutor, images: list[UInt8Array]) -> float:
    """Frames/s of the model alone."""
    started = time.perf_counter()
    for image in images:
        executor.run([image])
    return len(images) / (time.perf_counter() - started)


def served_fps(client: Client, jpegs: list[bytes], model: str, in_flight: int) -> tuple[float, list[float]]:
    """Frames/s and latencies (ms) of one session over the server, the first frame left out."""
    arrivals, latencies = [], []
    options = {"frames_in_flight": in_flight, "mask_encoding": MaskEncoding.PNG, "block_budget": 1.0}
    for result in client.stream(iter(jpegs), model=model, **options):  # type: ignore[arg-type]
        assert result.labels is not None, result.detail
        arrivals.append(time.perf_counter())
        latencies.append(result.latency * 1e3)
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]), latencies[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--size", default="480x360")
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=20, help="frames per turn")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    street = SyntheticStreet(seed=7, width=width, height=height, fps=15.0)
    images = [street.frame(t).image for t in range(0, 2 * arguments.frames, 2)]
    jpegs = encode(images)
    precision, dtype = choose_precision(arguments.precision, torch.device("cpu"))
    executor = DenseExecutor(load_model(arguments.model), torch.device("cpu"), dtype)
    flags = ("--models", arguments.model, "--precision", precision, "--device", "cpu")
    bare, served, latencies = [], [], []
    with serving(*flags) as address, Client(address) as client:
        bare_fps(executor, images[:4])
        served_fps(client, jpegs[:5], arguments.model, arguments.in_flight)
        for _ in range(arguments.rounds):
            bare.append(bare_fps(executor, images))
            fps, times = served_fps(client, jpegs, arguments.model, arguments.in_flight)
            served.append(fps)
            latencies += times
    ratio = statistics.median(served) / statistics.median(bare)
    p50, p99 = np.percentile(latencies, (50, 99))
    body = {
        "model": arguments.model,
        "precision": precision,
        "size": [width, height],
        "frames_in_flight": arguments.in_flight,
        "threads": torch.get_num_threads(),
        "bare_fps": [round(v, 2) for v in bare],
        "served_fps": [round(v, 2) for v in served],
        "ratio_of_medians": round(ratio, 3),
        "ratio_by_round": [round(s / b, 3) for s, b in zip(served, bare, strict=True)],
        "latency_ms": {"p50": round(float(p50), 1), "p99": round(float(p99), 1)},
    }
    path = write_result(
        f"server_overhead_{arguments.model}",
        "python -m bench.server_overhead " + " ".join(sys.argv[1:]),
        body,
    )
    print(
        f"{arguments.model} {precision} {arguments.size}, {arguments.in_flight} in flight: "
        f"bare {statistics.median(bare):.2f} frames/s, served {statistics.median(served):.2f} frames/s, "
        f"ratio {ratio:.3f}; latency p50 {p50:.0f} ms, p99 {p99:.0f} ms\nwrote {path}"
    )


if __name__ == "__main__":
    main()
