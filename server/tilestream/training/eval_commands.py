"""The commands ``tilestream eval stills`` and ``tilestream eval stream``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from tilestream.engine.device import choose_device, choose_precision, has_fast_bf16
from tilestream.messages import EngineError, UInt8Array
from tilestream.models import ModelError, load_model
from tilestream.training.datasets import open_dataset
from tilestream.training.datasets.base import DatasetError
from tilestream.training.evaluation import evaluate_stills
from tilestream.training.reports import print_stills, public_name
from tilestream.training.rivals import openvino
from tilestream.training.stream_evaluation import DenseScore, StreamEvaluation, StreamPoint
from tilestream.training.stream_methods import HALF_RESOLUTION, METHODS

console = Console(stderr=True)
eval_app = typer.Typer(help="Measure the accuracy of a model.", no_args_is_help=True)


@eval_app.callback()
def _eval() -> None:
    """Measure the accuracy of a model."""  # without a callback, typer makes a lone command the whole app


@eval_app.command("stills")
def eval_stills(
    data: Annotated[str, typer.Option(help="KIND:PATH of the labelled data.")],
    model: Annotated[
        str, typer.Option(help="Name of a shipped model or path of a .safetensors file.")
    ] = "swiftnet_resnet18",
    split: Annotated[str, typer.Option(help="Split of the data.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
) -> None:
    """Single-frame mIoU and per-class IoU on labelled stills."""
    try:
        place = choose_device(device)
        name, dtype = choose_precision(precision, place)  # type: ignore[arg-type]
        report = evaluate_stills(load_model(model), open_dataset(data, split), place, dtype)
    except (DatasetError, ModelError, EngineError) as error:
        console.print(f"[red]error:[/] {error}")
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
        _write(json_path, record)


@eval_app.command("stream")
def eval_stream(
    data: Annotated[
        str, typer.Option(help="KIND:PATH of labelled data whose frames follow one another; a PATH: CamVid.")
    ],
    model: Annotated[
        str, typer.Option(help="Name of a shipped model or path of a .safetensors file.")
    ] = "swiftnet_resnet18",
    split: Annotated[str, typer.Option(help="Split of the data.")] = "val",
    methods: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(METHODS)}.")] = ",".join(METHODS),
    budgets: Annotated[
        str, typer.Option(help="Comma-separated shares of the block units.")
    ] = "0.5,0.33,0.25,0.15,0.1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
) -> None:
    """Play labelled frames as one video and score every one, for every method and budget."""
    source = data if ":" in data else f"camvid:{data}"
    try:
        shares = [_share(text) for text in budgets.split(",")]
        names = methods.split(",")
        if unknown := [name for name in names if name not in METHODS]:
            raise ValueError(f"no method is called {unknown[0]!r}; there are {', '.join(METHODS)}")
        place = choose_device(device)
        chosen, _ = choose_precision(precision, place)  # type: ignore[arg-type]
        evaluation = StreamEvaluation(
            load_model(model),
            model,
            open_dataset(source, split),
            device=device,
            precision=chosen,  # type: ignore[arg-type]
            rival=_rival(place),
        )
        points = [
            evaluation.run(name, share)
            for name in names
            for share in (shares if name != HALF_RESOLUTION else [1.0])
        ]
    except (ValueError, DatasetError, ModelError, EngineError) as error:
        console.print(f"[red]error:[/] {error}")
        raise typer.Exit(1) from None
    _print_stream(f"{model} on {public_name(source)} {split}, {chosen}", evaluation.dense, points)
    if json_path is not None:
        record = {
            "model": model,
            "data": public_name(source),
            "split": split,
            "precision": chosen,
            "device": str(place),
            "threads": torch.get_num_threads(),
            "dense": asdict(evaluation.dense),
            "points": [asdict(point) for point in points],
        }
        _write(json_path, record)


def _share(text: str) -> float:
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise ValueError(f"budget {text}; allowed: above 0, at most 1")
    return share


def _rival(place: torch.device) -> Callable[[nn.Module, UInt8Array], Callable[[], object]] | None:
    """OpenVINO in bf16, where it is installed and the CPU can do it."""
    if place.type != "cpu" or not has_fast_bf16(place) or find_spec("openvino") is None:
        return None
    return lambda network, image: openvino(network, image, "bf16")


def _print_stream(title: str, dense: DenseScore, points: list[StreamPoint]) -> None:
    columns = (
        "method",
        "budget",
        "units",
        "MACs",
        "mIoU",
        "loss",
        "agreement",
        "ms",
        "p50",
        "p99",
        "speed-up",
    )
    table = Table(*columns, title=f"{title}: dense {dense.miou:.4f}, {dense.ms:.1f} ms")
    for p in points:
        table.add_row(
            p.method,
            f"{p.budget:g}",
            f"{p.units_kept:.3f}",
            f"{p.macs_ratio:.3f}",
            f"{p.miou:.4f}",
            f"{p.miou_loss:+.2f}",
            f"{p.agreement:.4f}",
            f"{p.ms:.1f}",
            f"{p.p50_ms:.1f}",
            f"{p.p99_ms:.1f}",
            f"{p.speedup_vs_dense:.2f}",
        )
    Console().print(table)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
