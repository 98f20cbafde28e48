"""The learned gate's examples, one video of them held out to judge on."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.turns import write_result
from tilestream.models import load_model
from tilestream_training.gate_examples import ExampleSources, gather
from tilestream_training.gate_training import Examples

SHARES = (0.1, 0.25, 0.5)
"""Of the bins that are looked at for wrong pixels."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """``training``: by name, all videos but ``held``. ``classes``: of the labels."""

    arguments: argparse.Namespace
    training: dict[str, Examples]
    held: Examples
    classes: int

    def write(self, name: str, body: dict[str, Any]) -> Path:
        """``bench/results/NAME.json``, without the folder of the clips."""
        arguments = self.arguments
        command = f"python -m bench.{name} --clips DIR " + " ".join(
            word for word in sys.argv[1:] if word not in ("--clips", str(arguments.clips))
        )
        facts = {
            "model": arguments.model,
            "held_out": arguments.held,
            "frames": {name: len(cells) for name, (cells, _) in self.training.items()},
            "steps": arguments.steps,
            "seeds": arguments.seeds,
            "shares_of_bins": SHARES,
        }
        return write_result(name, command, facts | body)


def load(description: str | None, steps: int, seeds: int) -> HeldOut:
    """What the command line asks for. ``steps``, ``seeds``: of every training, by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos")
    parser.add_argument("--held", required=True, help="the video (its name without ending) to judge on")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--work", type=Path, default=Path("runs/gate"))
    parser.add_argument("--frames", type=int, default=300, help="most of each video")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seeds", type=int, default=seeds)
    arguments = parser.parse_args()
    network = load_model(arguments.model)
    sources = ExampleSources(arguments.clips, frames=arguments.frames)
    videos = gather(network, arguments.model, sources, arguments.work, 0)
    held = videos.pop(f"clip-{arguments.held}")
    return HeldOut(arguments, videos, held, len(network.info.classes))  # type: ignore[union-attr, arg-type]
