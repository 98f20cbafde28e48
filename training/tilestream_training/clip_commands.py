"""The command ``tilestream eval clips``."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from tilestream.engine.device import choose_device
from tilestream.engine.precision import choose_precision
from tilestream.messages import EngineError
from tilestream.models import ModelError, load_model
from tilestream.terminal import say
from tilestream_training.clip_evaluation import ClipPoint, play
from tilestream_training.gate_examples import read_video
from tilestream_training.options import (
    BudgetsOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
)
from tilestream_training.reports import parse_shares, print_clips, write_json
from tilestream_training.stream_methods import UNLABELLED, frames_ahead, fusion_of, make_method, motion_of


def eval_clips(
    clips: Annotated[list[Path], typer.Argument(help="Video files; they need no labels.")],
    model: ModelOption = "swiftnet_resnet18",
    method: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(UNLABELLED)}.")
    ] = "every_k,learned",
    budget: BudgetsOption = "0.5,0.33,0.25,0.15",
    frames: Annotated[int, typer.Option(help="Most frames of each clip.")] = 150,
    fps: Annotated[
        float, typer.Option(help="Clips with more frames per second are thinned out to this.")
    ] = 15,
    width: Annotated[int, typer.Option(help="Wider clips are scaled down to this.")] = 480,
    delay: Annotated[
        int, typer.Option(min=0, help="Frames that labels may wait for with methods that look ahead.")
    ] = 12,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    json_path: JsonOption = None,
) -> None:
    """Play unlabelled videos: agreement with computing every frame in full, and time against that."""
    try:
        budgets, methods = parse_shares(budget), method.split(",")
        if unknown := [name for name in methods if name not in UNLABELLED]:
            raise ValueError(f"no method is called {unknown[0]!r}; there are {', '.join(UNLABELLED)}")
        place = choose_device(device)
        chosen, _ = choose_precision(precision, place)  # type: ignore[arg-type]
        network = load_model(model)
        points: list[ClipPoint] = []
        for path in clips:
            images = list(islice(read_video(path, fps, width), frames))
            if not images:
                raise EngineError(f"{path} has no frames")
            for name, share in tqdm([(name, share) for name in methods for share in budgets], path.stem):
                gate = make_method(name, model, 64)
                names = (path.stem, name)
                points.append(
                    play(
                        network,
                        gate,
                        images,
                        names,
                        share,
                        device=device,
                        precision=chosen,  # type: ignore[arg-type]
                        fusion=fusion_of(names[1]),
                        motion=motion_of(names[1]),
                        look_ahead=frames_ahead(names[1], delay),
                    )
                )
    except (ValueError, OSError, ModelError, EngineError) as error:
        say(f"error: {error}", error=True)
        raise typer.Exit(1) from None
    print_clips(f"{model}, {chosen}", points)
    if json_path is not None:
        record = {
            "model": model,
            "precision": chosen,
            "device": str(place),
            "threads": torch.get_num_threads(),
            "fps": fps,
            "delay": delay,
            "width": width,
            "clips": [asdict(point) for point in points],
        }
        write_json(json_path, record)
