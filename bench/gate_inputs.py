"""What each input of the learned gate is worth: trained without it, how well does it still rank bins?

The gate is trained on all videos but one and judged on that one. An input that is left out is 0 everywhere,
in training and in the test.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.held_out import SHARES, load
from tilestream.engine.gates.cells import SIGNALS
from tilestream_training.gate_training import Examples, captured, fit

GROUPS = {
    "distortion": ("distortion", "current", "peak"),
    "age": ("age",),
    "motion": ("motion", "spread"),
    "occlusion": ("occluded",),
    "texture": ("texture",),
    "row": ("row",),
    "class borders": ("border",),
    "classes": (),  # all channels after the signals
}


def without(examples: Examples, groups: list[str]) -> Examples:
    """The same with these inputs at 0."""
    cells, wrong = examples
    cells = cells.clone()
    for group in groups:
        if group == "classes":
            cells[:, len(SIGNALS) :] = 0
        else:
            cells[:, [SIGNALS.index(name) for name in GROUPS[group]]] = 0
    return cells, wrong


def judge(
    training: list[Examples], held: Examples, groups: list[str], classes: int, steps: int, seed: int
) -> list[float]:
    """Shares of the wrong pixels that lie in the best 10, 25, 50 % of the bins of the held-out video."""
    gate = fit([without(video, groups) for video in training], classes, steps, seed, progress=False)
    cells, wrong = without(held, groups)
    with torch.inference_mode():
        scores = torch.sigmoid(gate(cells))
    return [captured(scores, wrong, share) for share in SHARES]


def main() -> None:
    """Measure and write ``bench/results/gate_inputs.json``."""
    examples = load(__doc__, steps=1500, seeds=3)
    steps, seeds, classes = examples.arguments.steps, examples.arguments.seeds, examples.classes
    training, held = list(examples.training.values()), examples.held

    between_frames = ["distortion", "age", "motion", "occlusion"]
    labels = ["class borders", "classes"]
    others = [group for group in GROUPS if group != "distortion"]
    left_out = [[], *([group] for group in GROUPS), between_frames, labels, others]
    rows: list[dict[str, Any]] = []
    for groups in left_out:
        runs = [judge(training, held, groups, classes, steps, seed) for seed in range(seeds)]
        means = [round(statistics.mean(values), 4) for values in zip(*runs, strict=True)]
        spread = [round(max(values) - min(values), 4) for values in zip(*runs, strict=True)]
        rows.append({"left_out": groups, "captured": means, "range_over_seeds": spread})
        print(rows[-1], flush=True)
    best = [round(captured(held[1], held[1], share), 4) for share in SHARES]
    table = Table("left out", *(f"best {share:.0%}" for share in SHARES))
    for row in rows:
        table.add_row(", ".join(row["left_out"]) or "nothing", *(f"{v:.1%}" for v in row["captured"]))
    table.add_row("(knowing the answer)", *(f"{value:.1%}" for value in best))
    Console().print(table)
    body = {"rows": rows, "knowing_the_answer": best}
    print(f"wrote {examples.write('gate_inputs', body)}")


if __name__ == "__main__":
    main()
