"""The commands ``tilestream eval stills`` and ``tilestream eval stream``."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tilestream.engine.device import choose_device, choose_precision
from tilestream.engine.gate import GATES, EveryKGate
from tilestream.engine.learned_gate import LEARNED, load_gate_named
from tilestream.messages import EngineError
from tilestream.models import ModelError, load_model
from tilestream.training.datasets import open_dataset
from tilestream.training.datasets.base import DatasetError
from tilestream.training.evaluation import evaluate_stills
from tilestream.training.reports import print_stills, public_name
from tilestream.training.stream_evaluation import StreamReport, evaluate_stream

console = Console(stderr=True)

_BIN_SIZE = 64
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
    data: Annotated[str, typer.Option(help="KIND:PATH of labelled data whose frames follow one another.")],
    model: Annotated[
        str, typer.Option(help="Name of a shipped model or path of a .safetensors file.")
    ] = "swiftnet_resnet18",
    split: Annotated[str, typer.Option(help="Split of the data.")] = "val",
    gate: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(GATES + LEARNED)}.")
    ] = "every_k,budget",
    budgets: Annotated[
        str, typer.Option(help="Comma-separated shares of the block units.")
    ] = "1,0.5,0.33,0.25,0.1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
) -> None:
    """Play labelled frames as one video and score every one, for every gate and budget."""
    try:
        shares = [float(text) for text in budgets.split(",")]
        gates = {name: load_gate_named(name, model, _BIN_SIZE) for name in gate.split(",")}
        network, dataset = load_model(model), open_dataset(data, split)
        place: dict[str, Any] = {"device": device, "precision": precision}
        dense = evaluate_stream(network, dataset, EveryKGate(1), 1.0, **place)
        runs = {
            (name, share): evaluate_stream(network, dataset, gates[name], share, **place)
            for name, share in product(gates, shares)
        }
    except (ValueError, DatasetError, ModelError, EngineError) as error:
        console.print(f"[red]error:[/] {error}")
        raise typer.Exit(1) from None
    _print_stream(f"{model} on {public_name(data)} {split}, dense {dense.miou:.4f}", dense, runs)
    if json_path is not None:
        _write(
            json_path,
            {
                "model": model,
                "data": public_name(data),
                "split": split,
                **place,
                "dense": asdict(dense),
                "runs": [{"gate": g, "budget": b, **asdict(report)} for (g, b), report in runs.items()],
            },
        )


def _print_stream(title: str, dense: StreamReport, runs: dict[tuple[str, float], StreamReport]) -> None:
    columns = ("gate", "budget", "units", "MACs", "key frames", "distortion", "mIoU", "against dense")
    table = Table(*columns, title=title)
    for (gate, budget), report in runs.items():
        shares = (f"{report.units:.3f}", f"{report.macs:.3f}", f"{report.key_frames:.2f}")
        points = f"{100 * (report.miou - dense.miou):+.2f}"
        table.add_row(gate, f"{budget:g}", *shares, f"{report.distortion:.1f}", f"{report.miou:.4f}", points)
    Console().print(table)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
