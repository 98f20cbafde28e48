"""Accuracy on a labelled video when only a share of it is computed: every gate at every budget."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import product
from typing import Any

from bench.turns import write_result
from tilestream.engine.device import choose_device, choose_precision
from tilestream.engine.gate import EveryKGate
from tilestream.engine.learned_gate import load_gate_named
from tilestream.models import load_model
from tilestream.training.datasets import open_dataset
from tilestream.training.stream_evaluation import evaluate_stream

GATES = ("every_k", "budget", "threshold", "learned", "learned_spread")
BUDGETS = (0.5, 0.33, 0.25, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="CamVid's folder; its split val is a video of 15 Hz")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    network, dataset = load_model(arguments.model), open_dataset(f"camvid:{arguments.data}", "val")
    precision, _ = choose_precision(arguments.precision, choose_device("cpu"))
    place: dict[str, Any] = {"precision": precision, "progress": False}
    dense = evaluate_stream(network, dataset, EveryKGate(1), 1.0, **place)
    print(f"{arguments.model} {precision}: dense {dense.miou:.4f}")
    runs = []
    for gate, budget in product(GATES, BUDGETS):
        report = evaluate_stream(
            network, dataset, load_gate_named(gate, arguments.model, 64), budget, **place
        )
        points = round(100 * (report.miou - dense.miou), 2)
        print(f"{gate:10} {budget:5} MACs {report.macs:.3f} mIoU {report.miou:.4f} ({points:+.2f})")
        runs.append({"gate": gate, "budget": budget, "points_against_dense": points, **asdict(report)})
    body = {"model": arguments.model, "precision": precision, "dense": asdict(dense), "runs": runs}
    command = f"python -m bench.stream_accuracy --data camvid --model {arguments.model}"
    print(f"wrote {write_result(f'stream_accuracy_{arguments.model}', command, body)}")


if __name__ == "__main__":
    main()
