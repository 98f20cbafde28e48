"""Labelled frames through a real server: mIoU of the masks received against the model's own.

Streams the JPEG files as they are, in order, decodes the masks, and compares with the dense executor in
this process on the same files, decoded by the server's decoder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bench.turns import write_result
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.precision import choose_precision
from tilestream.media.jpeg import FrameLimits, decode_picture, read_picture
from tilestream.models import load_model
from tilestream_client import Client, Result
from tilestream_training.datasets.camvid import CamVid
from tilestream_training.metrics import ConfusionMatrix
from tools.server_process import serving

NO_LIMITS = FrameLimits(1 << 30, 1 << 30, 1 << 16)


def through_server(jpegs: list[bytes], model: str, precision: str) -> tuple[list[Result], float]:
    """All results, and the seconds from the first request to the last answer."""
    with serving("--models", model, "--precision", precision) as address, Client(address) as client:
        list(client.stream(iter(jpegs[:3]), block_budget=1.0))  # the first frames of a process are slow
        started = time.perf_counter()
        results = list(client.stream(iter(jpegs), frames_in_flight=2, block_budget=1.0))
        return results, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of CamVid (train.txt, val.txt, test.txt)"
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    dataset = CamVid(arguments.data, arguments.split)
    jpegs = [image.read_bytes() for image, _ in dataset.pairs]
    truths = [dataset[index].labels for index in range(len(dataset))]
    precision, dtype = choose_precision(arguments.precision, torch.device("cpu"))
    executor = DenseExecutor(load_model(arguments.model), torch.device("cpu"), dtype)
    results, seconds = through_server(jpegs, arguments.model, precision)
    classes = len(dataset.class_names)
    local, remote = ConfusionMatrix(classes), ConfusionMatrix(classes)
    different = 0
    for jpeg, truth, result in zip(jpegs, truths, results, strict=True):
        assert result.labels is not None, result.detail
        pixels = decode_picture(read_picture(jpeg, NO_LIMITS, None, 1 << 30)).pixels
        assert pixels is not None
        expected = executor.labels(pixels)
        remote.add(truth, result.labels)
        local.add(truth, expected)
        different += int((expected != result.labels).sum())
    latencies = [result.latency * 1e3 for result in results[1:]]
    engine = [result.times.engine * 1e3 for result in results]
    p50, p99 = np.percentile(latencies, (50, 99))
    body = {
        "model": arguments.model,
        "precision": precision,
        "split": arguments.split,
        "frames": len(dataset),
        "miou_from_received_masks": remote.miou(),
        "miou_in_process": local.miou(),
        "pixels_that_differ": different,
        "fps": round(len(results) / seconds, 2),
        "engine_ms_median": round(statistics.median(engine), 2),
        "latency_ms": {"p50": round(float(p50), 1), "p99": round(float(p99), 1)},
    }
    command = "python -m bench.stills_through_server " + " ".join(
        Path(word).name if "/" in word else word for word in sys.argv[1:]
    )
    path = write_result(f"stills_through_server_{arguments.model}", command, body)
    print(body)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
