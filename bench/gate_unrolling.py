"""What it is worth that the gate learns from frames whose labels have travelled for up to 16 frames.

Trained on all of them, only on frames straight after a whole one, or on as many of all at random; judged on a
video that was held out: how well bins are ranked, and how much of what is wrong is expected.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from bench.held_out import SHARES, load
from tilestream.engine.gates.cells import SIGNALS
from tilestream.engine.gates.risk_net import RiskNet
from tilestream_training.gate_training import Examples, captured, fit

AGE_UNIT = 8  # frames per 1 of the channel
AGES = ((0, 1), (2, 4), (5, 8), (9, 16))


def ages(examples: Examples) -> torch.Tensor:
    """Mean age of every frame before it is computed, frames, [N]."""
    return examples[0][:, SIGNALS.index("age")].mean(dim=(1, 2)) * AGE_UNIT


def straight_after(examples: Examples) -> Examples:
    """Frames whose predecessor was computed as a whole."""
    cells, wrong = examples
    chosen = ages(examples) <= 1.5
    return cells[chosen], wrong[chosen]


def as_many(examples: Examples, count: int, seed: int) -> Examples:
    """So many frames at random."""
    cells, wrong = examples
    chosen = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))[:count]
    return cells[chosen], wrong[chosen]


def judged(gate: RiskNet, held: Examples) -> dict[str, Any]:
    """Wrong pixels in the best bins, and by age what is expected for every wrong pixel."""
    cells, wrong = held
    with torch.inference_mode():
        scores = torch.sigmoid(gate(cells))
    old = ages(held).round()
    expected = {}
    for low, high in AGES:
        these = (old >= low) & (old <= high)
        if these.any():
            expected[f"{low}-{high}"] = float(scores[these].sum() / wrong[these].sum())
    return {"captured": [captured(scores, wrong, share) for share in SHARES], "expected": expected}


def main() -> None:
    """Measure and write ``bench/results/gate_unrolling.json``."""
    examples = load(__doc__, steps=1000, seeds=2)
    steps, seeds, classes = examples.arguments.steps, examples.arguments.seeds, examples.classes
    training, held = list(examples.training.values()), examples.held

    first = [straight_after(video) for video in training]
    rows: list[dict[str, Any]] = []
    for name in ("unrolled", "straight after a whole frame", "as many of all"):
        runs = []
        for seed in range(seeds):
            chosen = training
            if name == "as many of all":
                chosen = [as_many(v, len(f[0]), seed) for v, f in zip(chosen, first, strict=True)]
            elif name != "unrolled":
                chosen = first
            usable = [video for video in chosen if len(video[0])]
            runs.append(judged(fit(usable, classes, steps, seed, progress=False), held))
        means = [
            round(statistics.mean(values), 4)
            for values in zip(*(run["captured"] for run in runs), strict=True)
        ]
        expected = {
            key: round(statistics.mean(run["expected"][key] for run in runs), 3)
            for key in runs[0]["expected"]
        }
        frames = sum(len(video[0]) for video in usable)
        rows.append({"trained_on": name, "frames": frames, "captured": means, "expected_per_wrong": expected})
        print(rows[-1], flush=True)
    body = {"rows": rows}
    print(f"wrote {examples.write('gate_unrolling', body)}")


if __name__ == "__main__":
    main()
