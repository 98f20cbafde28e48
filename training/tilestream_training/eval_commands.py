"""Measure the accuracy of a model: `eval stills`, `eval stream` and `eval clips`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from tilestream.engine.device import choose_device
from tilestream.engine.precision import choose_precision, has_fast_bf16
from tilestream.messages import EngineError, UInt8Array
from tilestream.models import ModelError, load_model
from tilestream.terminal import say
from tilestream_training.clip_commands import eval_clips
from tilestream_training.datasets import open_dataset
from tilestream_training.datasets.base import DatasetError
from tilestream_training.evaluation import evaluate_stills
from tilestream_training.options import (
    BudgetsOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    SplitOption,
)
from tilestream_training.reports import (
    monitor_correlations,
    parse_shares,
    print_stills,
    print_stream,
    public_name,
    write_json,
)
from tilestream_training.rivals import openvino
from tilestream_training.standstill import WithStops, parse_stops
from tilestream_training.stream_evaluation import StreamEvaluation
from tilestream_training.stream_methods import HALF_RESOLUTION, METHODS

eval_app = typer.Typer(help="Measure the accuracy of a model.", no_args_is_help=True)


eval_app.command("clips")(eval_clips)


@eval_app.callback()
def _eval() -> None:
    """Measure the accuracy of a model."""  # without a callback, typer makes a lone command the whole app


@eval_app.command("stills")
def eval_stills(
    data: Annotated[str, typer.Option(help="KIND:PATH of the labelled data.")],
    model: ModelOption = "swiftnet_resnet18",
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    json_path: JsonOption = None,
) -> None:
    """Single-frame mIoU and per-class IoU on labelled stills."""
    try:
        place = choose_device(device)
        name, dtype = choose_precision(precision, place)  # type: ignore[arg-type]
        report = evaluate_stills(load_model(model), open_dataset(data, split), place, dtype)
    except (DatasetError, ModelError, EngineError) as error:
        say(f"error: {error}", error=True)
        raise typer.Exit(1) from None
    print_stills(f"{model} on {public_name(data)} {split}, {name}", report)
    if json_path is not None:
        record = {
            "model": model,
            "data": public_name(data),
            "split": split,
            "precision": name,
            **asdict(report),
        }
        write_json(json_path, record)


@eval_app.command("stream")
def eval_stream(
    data: Annotated[
        str, typer.Option(help="KIND:PATH of labelled data whose frames follow one another; a PATH: CamVid.")
    ],
    model: ModelOption = "swiftnet_resnet18",
    split: SplitOption = "val",
    methods: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(METHODS)}.")] = ",".join(METHODS),
    budgets: BudgetsOption = "0.5,0.33,0.25,0.15,0.1",
    phases: Annotated[
        int,
        typer.Option(min=1, help="So often, methods of whole frames play the clip, with other whole frames."),
    ] = 3,
    delay: Annotated[
        int, typer.Option(min=0, help="Frames that labels may wait for with methods that look ahead.")
    ] = 12,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    standstill: Annotated[
        str | None, typer.Option(help="FRAMESxTIMES: so often in the clip, hold a frame for so long (20x3).")
    ] = None,
    json_path: JsonOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw mIoU against ms here (PNG).")] = None,
) -> None:
    """Play labelled frames as one video and score every one, for every method and budget."""
    source = data if ":" in data else f"camvid:{data}"
    try:
        if plot is not None and find_spec("matplotlib") is None:
            raise ValueError("--plot needs matplotlib: pip install 'tilestream-training[plots]'")
        shares = parse_shares(budgets)
        names = methods.split(",")
        if unknown := [name for name in names if name not in METHODS]:
            raise ValueError(f"no method is called {unknown[0]!r}; there are {', '.join(METHODS)}")
        place = choose_device(device)
        chosen, _ = choose_precision(precision, place)  # type: ignore[arg-type]
        clip = open_dataset(source, split)
        if standstill is not None:
            clip = WithStops(clip, *parse_stops(standstill))
        evaluation = StreamEvaluation(
            load_model(model),
            model,
            clip,
            device=device,
            precision=chosen,  # type: ignore[arg-type]
            rival=_rival(place),
            phases=phases,
            delay=delay,
        )
        points = [
            evaluation.run(name, share)
            for name in names
            for share in (shares if name != HALF_RESOLUTION else [1.0])
        ]
    except (ValueError, DatasetError, ModelError, EngineError) as error:
        say(f"error: {error}", error=True)
        raise typer.Exit(1) from None
    title = f"{model} on {public_name(source)} {split}, {chosen}" + (f", {standstill}" if standstill else "")
    print_stream(title, evaluation.dense, points)
    if plot is not None:
        from tilestream_training.plots import plot_points  # matplotlib is not everyone's

        plot_points(plot, title, evaluation.dense, points)
    if json_path is not None:
        record = {
            "model": model,
            "data": public_name(source),
            "split": split,
            "precision": chosen,
            "device": str(place),
            "threads": torch.get_num_threads(),
            "standstill": standstill,
            "phases": phases,
            "delay": delay,
            "dense": asdict(evaluation.dense),
            "monitor": monitor_correlations(points),
            "points": [asdict(point) for point in points],
        }
        write_json(json_path, record)


def _rival(place: torch.device) -> Callable[[nn.Module, UInt8Array], Callable[[], object]] | None:
    """OpenVINO in bf16, where it is installed and the CPU can do it."""
    if place.type != "cpu" or not has_fast_bf16(place) or find_spec("openvino") is None:
        return None
    return lambda network, image: openvino(network, image, "bf16")
