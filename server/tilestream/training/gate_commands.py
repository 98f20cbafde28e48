"""The command ``tilestream train-gate``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from rich.console import Console
from tqdm import tqdm

from tilestream.engine.gate_weights import gate_path, save_gate
from tilestream.messages import EngineError, UInt8Array
from tilestream.models import ModelError, load_model
from tilestream.training.gate_data import collect
from tilestream.training.gate_training import Examples, captured, fit
from tilestream.training.synthetic import SyntheticStreet

console = Console(stderr=True)

_VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts")
_STREET_SEED = 2000


def train_gate(
    clips: Annotated[
        Path | None, typer.Option(help="Folder of videos of your cameras; they need no labels.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Name of a shipped model or path of a .safetensors file.")
    ] = "swiftnet_resnet18",
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
) -> None:
    """Teach the gate what moved labels get wrong, from videos without labels.

    The model itself is the teacher: every frame is computed in full, and compared with the labels that
    reuse would have given.
    """
    try:
        network = load_model(model)
        sources: dict[str, Iterator[UInt8Array]] = {}
        for path in _videos(clips):
            sources[f"clip-{path.stem}"] = islice(read_video(path, fps, width), frames)
        for street in range(streets):
            sources[f"street-{street}"] = _street(_STREET_SEED + street, min(frames, 120))
        if not sources:
            raise EngineError("nothing to learn from: name a folder with --clips, or --streets above 0")
        videos: list[Examples] = []
        for number, (name, source) in enumerate(sources.items()):
            file = work / f"{Path(model).stem}-{name}.npz"
            if not file.exists():
                examples = collect(network, source, seed + number, device=device, precision=precision)  # type: ignore[arg-type]
                _store(file, examples, name)
            videos.append(_load(file))
        videos = [(cells, wrong) for cells, wrong in videos if len(cells)]
        classes = len(network.info.classes)  # type: ignore[union-attr, arg-type]
        gate = fit(videos, classes, steps, seed)
    except (EngineError, ModelError, OSError) as error:
        console.print(f"[red]error:[/] {error}")
        raise typer.Exit(1) from None
    with torch.inference_mode():
        shares = [captured(torch.sigmoid(gate(cells)), wrong, 0.25) for cells, wrong in videos]
    path = out or gate_path(model)
    save_gate(gate, model, path)
    frames_seen = sum(len(cells) for cells, _ in videos)
    console.print(
        f"{path}: learned from {frames_seen} frames; a quarter of the bins holds "
        f"{np.mean(shares):.0%} of the wrong pixels (training data)"
    )


def read_video(path: Path, fps: float, width: int) -> Iterator[UInt8Array]:
    """Frames uint8 [H, W, 3] RGB, at most so many a second and so wide."""
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise EngineError(f"{path} cannot be read as a video")
    step = max(1, round((video.get(cv2.CAP_PROP_FPS) or fps) / fps))
    number = 0
    while video.grab():
        if number % step == 0:
            good, frame = video.retrieve()
            if good:
                yield _fit(frame, width)
        number += 1
    video.release()


def _fit(frame: np.ndarray, width: int) -> UInt8Array:  # type: ignore[type-arg]
    if frame.shape[1] > width:
        height = round(frame.shape[0] * width / frame.shape[1])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _videos(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _VIDEOS)
    if not found:
        raise EngineError(f"{folder} has no videos ({', '.join(_VIDEOS)})")
    return found


def _street(seed: int, frames: int) -> Iterator[UInt8Array]:
    for frame in SyntheticStreet(seed).frames(frames):
        yield frame.image


def _store(file: Path, examples: Iterator, name: str) -> None:  # type: ignore[type-arg]
    found = list(tqdm(examples, desc=name, unit="frame", dynamic_ncols=True))
    cells = np.stack([e.cells for e in found]).astype(np.float16) if found else np.zeros((0, 1, 1, 1))
    wrong = np.stack([e.wrong for e in found]).astype(np.float16) if found else np.zeros((0, 1, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(part, cells=cells, wrong=wrong)
    part.replace(file)


def _load(file: Path) -> Examples:
    with np.load(file) as arrays:
        return tuple(torch.from_numpy(arrays[key].astype(np.float32)) for key in ("cells", "wrong"))  # type: ignore[return-value]
