"""The dense network in our executor, in OpenVINO and in ONNX Runtime: one frame in, one label map out.

Every contender gets the same job: a uint8 RGB frame of the given size in memory, to uint8 labels. For the
foreign runtimes normalisation, padding and arg max are part of their graph, so that they can fuse them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.turns import Timing, as_records, take_turns, write_result
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.precision import has_fast_bf16
from tilestream.messages import UInt8Array
from tilestream.models import list_models, load_model
from tilestream_street import SyntheticStreet
from tilestream_training.rivals import Contender, FrameToLabels, openvino

SIZES = ((360, 480), (720, 960))


def ours(network: nn.Module, image: UInt8Array, dtype: torch.dtype) -> Contender:
    """Our dense executor."""
    executor = DenseExecutor(network, torch.device("cpu"), dtype)
    return lambda: executor.labels(image)


def eager(network: nn.Module, image: UInt8Array) -> Contender:
    """The module as it is: what somebody gets who calls PyTorch without more ado."""
    wrapped = FrameToLabels(network).eval()
    tensor = torch.from_numpy(image[None])

    def run() -> UInt8Array:
        with torch.inference_mode():
            return np.asarray(wrapped(tensor)[0].numpy(), dtype=np.uint8)

    return run


def pool_by_matrices(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Adaptive average pooling as two matrix products: the same numbers, in operators that ONNX has."""
    rows, columns = (size, size) if isinstance(size, int) else size
    return _averaging(rows, int(x.shape[-2])) @ x @ _averaging(columns, int(x.shape[-1])).T


def _averaging(cells: int, length: int) -> Tensor:
    matrix = torch.zeros(cells, length)
    for cell in range(cells):
        start, end = cell * length // cells, -(-(cell + 1) * length // cells)
        matrix[cell, start:end] = 1.0 / (end - start)
    return matrix


def onnx_runtime(network: nn.Module, image: UInt8Array) -> Contender:
    """ONNX Runtime, fp32 (it has no bf16 convolutions on CPUs)."""
    import onnxruntime

    example = torch.from_numpy(image[None])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with mock.patch.object(F, "adaptive_avg_pool2d", pool_by_matrices):
            torch.onnx.export(
                FrameToLabels(network).eval(),
                (example,),
                path,
                input_names=["image"],
                opset_version=17,
                dynamo=False,
            )
        model = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batch = image[None]
    return lambda: np.asarray(session.run(None, {"image": batch})[0][0], dtype=np.uint8)


def contenders(network: nn.Module, image: UInt8Array) -> dict[str, Contender]:
    """All that can run here, by name."""
    found = {
        "ours fp32": ours(network, image, torch.float32),
        "PyTorch eager fp32": eager(network, image),
        "OpenVINO fp32": openvino(network, image, "f32"),
        "ONNX Runtime fp32": onnx_runtime(network, image),
    }
    if has_fast_bf16(torch.device("cpu")):
        found["ours bf16"] = ours(network, image, torch.bfloat16)
        found["OpenVINO bf16"] = openvino(network, image, "bf16")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=3)
    arguments = parser.parse_args()
    results = []
    for name in list_models():
        network = load_model(name)
        for height, width in SIZES:
            image = SyntheticStreet(seed=7, width=width, height=height).frame(0).image
            runners = contenders(network, image)
            reference = runners["PyTorch eager fp32"]()
            agreement = {key: float((run() == reference).mean()) for key, run in runners.items()}
            timings = take_turns(runners, arguments.rounds, arguments.calls)
            show(f"{name} {width}x{height}", timings, agreement)
            results.append(
                {
                    "model": name,
                    "width": width,
                    "height": height,
                    "timings": as_records(timings),
                    "labels_equal_to_eager_fp32": agreement,
                }
            )
    path = write_result(
        "dense_runtimes",
        "python -m bench.dense_runtimes " + " ".join(sys.argv[1:]),
        {"threads": torch.get_num_threads(), "results": results},
    )
    print(f"wrote {path}")


def show(title: str, timings: dict[str, Timing], agreement: dict[str, float]) -> None:
    """A table for people."""
    best = min(timing.median_ms for timing in timings.values())
    print(f"\n{title}\n{'':22}{'median ms':>10}{'min':>9}{'x fastest':>11}{'same labels':>13}")
    for name, timing in sorted(timings.items(), key=lambda item: item[1].median_ms):
        ratio = timing.median_ms / best
        print(
            f"{name:22}{timing.median_ms:>10.1f}{timing.min_ms:>9.1f}{ratio:>11.2f}{agreement[name]:>13.4f}"
        )


if __name__ == "__main__":
    main()
