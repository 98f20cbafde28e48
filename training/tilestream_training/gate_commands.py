"""The command ``tilestream train-gate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from tilestream.engine.gates.weights import gate_path, save_gate
from tilestream.messages import EngineError
from tilestream.models import ModelError, load_model
from tilestream.terminal import say
from tilestream_training.gate_examples import ExampleSources, gather
from tilestream_training.gate_training import captured, fit
from tilestream_training.options import (
    DeviceOption,
    ModelOption,
    PrecisionOption,
)


def train_gate(
    clips: Annotated[
        Path | None, typer.Option(help="Folder of videos of your cameras; they need no labels.")
    ] = None,
    model: ModelOption = "swiftnet_resnet18",
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: beside the model's weights.")
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Folder of the collected examples; what is there is not collected again.")
    ] = Path("runs/gate"),
    streets: Annotated[int, typer.Option(help="Synthetic streets to learn from too.")] = 5,
    frames: Annotated[int, typer.Option(help="Most frames of each video.")] = 700,
    fps: Annotated[
        float, typer.Option(help="Videos with more frames per second are thinned out to this.")
    ] = 15,
    width: Annotated[int, typer.Option(help="Wider videos are scaled down to this.")] = 480,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 3000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Teach the gate what warped labels get wrong, from videos without labels.

    The model itself is the teacher: every frame is computed in full, and compared with the labels that
    reuse would have given.
    """
    try:
        network = load_model(model)
        sources = ExampleSources(clips, streets, frames, fps, width)
        found = gather(
            network,
            Path(model).stem,
            sources,
            work,
            seed,
            device=device,
            precision=precision,  # type: ignore[arg-type]
        )
        videos = list(found.values())
        classes = len(network.info.classes)  # type: ignore[union-attr, arg-type]
        gate = fit(videos, classes, steps, seed)
    except (EngineError, ModelError, OSError) as error:
        say(f"error: {error}", error=True)
        raise typer.Exit(1) from None
    with torch.inference_mode():
        shares = [captured(torch.sigmoid(gate(cells)), wrong, 0.25) for cells, wrong in videos]
    path = out or gate_path(model)
    save_gate(gate, model, path)
    frames_seen = sum(len(cells) for cells, _ in videos)
    say(
        f"{path}: learned from {frames_seen} frames; a quarter of the bins holds "
        f"{np.mean(shares):.0%} of the wrong pixels (training data)",
        error=True,
    )
