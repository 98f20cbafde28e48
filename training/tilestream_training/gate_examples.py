"""Videos and synthetic streets as examples for the learned gate, collected once and kept in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tilestream.engine.options import Precision
from tilestream.messages import EngineError, UInt8Array
from tilestream_street import SyntheticStreet
from tilestream_training.gate_data import GateExample, collect
from tilestream_training.gate_training import Examples

_VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts")
_STREET_SEED = 2000


@dataclass(frozen=True, slots=True)
class ExampleSources:
    """``clips``: a folder of videos, None for none. ``streets``: how many synthetic ones.

    ``frames``: most of each video, thinned out to ``fps`` and scaled down to ``width``.
    """

    clips: Path | None = None
    streets: int = 5
    frames: int = 700
    fps: float = 15.0
    width: int = 480

    def open(self) -> dict[str, Iterator[UInt8Array]]:
        """Frames uint8 [H, W, 3] RGB by name. Raises EngineError where there are none."""
        found: dict[str, Iterator[UInt8Array]] = {}
        for path in _videos(self.clips):
            found[f"clip-{path.stem}"] = islice(read_video(path, self.fps, self.width), self.frames)
        for street in range(self.streets):
            found[f"street-{street}"] = _street(_STREET_SEED + street, min(self.frames, 120))
        if not found:
            raise EngineError("nothing to learn from: name a folder with --clips, or --streets above 0")
        return found


def gather(
    network: nn.Module,
    name: str,
    sources: ExampleSources,
    work: Path,
    seed: int,
    *,
    device: str = "auto",
    precision: Precision = "auto",
) -> dict[str, Examples]:
    """Examples by video. What ``work`` has for these weights of the model ``name`` is not collected again."""
    weights = _digest(network)
    videos: dict[str, Examples] = {}
    for number, (video, source) in enumerate(sources.open().items()):
        file = work / f"{name}-{weights}-{video}.npz"
        if not file.exists():
            _store(file, collect(network, source, seed + number, device=device, precision=precision), video)
        cells, wrong = _load(file)
        if len(cells):
            videos[video] = (cells, wrong)
    return videos


def _digest(network: nn.Module) -> str:
    """Eight letters that other weights do not have."""
    found = hashlib.sha256()
    for value in network.state_dict().values():
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


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


def _store(file: Path, examples: Iterator[GateExample], name: str) -> None:
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
