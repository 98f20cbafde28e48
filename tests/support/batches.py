"""Batches of one frame from arrays, several of them in one, and one out of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.gates.gate import GateInput
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.motion.estimators import MotionEstimator
from tilestream.engine.motion.flow import Motion

T = TypeVar("T")

FIGURES = {
    "budget": torch.float64,
    "credit": torch.float64,
    "limit": torch.float64,
    "since_whole": torch.int64,
    "since_source": torch.int64,
    "refreshed": torch.int64,
    "risk_scale": torch.float32,
    "averaged": torch.int64,
    "looks_ahead": torch.bool,
}
"""What a gate is told of every frame beside its bins."""


def batch(*maps: np.ndarray) -> Tensor:
    """Maps of one shape, [N, ...]."""
    return torch.from_numpy(np.stack(maps))


def only(maps: Tensor) -> np.ndarray:
    """The map in a batch of one; shares its memory."""
    assert len(maps) == 1
    return maps.numpy()[0]


def equal(one: Any, other: Any) -> bool:
    """Whether two tensors, or all of them in two messages, are the same to the bit."""
    if is_dataclass(one):
        return all(equal(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def joined(parts: Sequence[T]) -> T:
    """Tensors, or messages full of them, in one batch; what is no tensor is that of the first."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if not is_dataclass(first):
        return first
    names = [each.name for each in fields(first)]
    return type(first)(**{name: joined([getattr(part, name) for part in parts]) for name in names})


# Motion


def motion_of(flow: Any, occluded: np.ndarray | None = None, scale: int = 2, **known: Tensor) -> Motion:
    """One frame's, from ``flow`` [h, w, 2] and ``occluded`` [h, w], by default nowhere."""
    field = torch.as_tensor(np.asarray(flow, dtype=np.float32))[None]
    hidden = np.zeros(field.shape[1:3], dtype=np.bool_) if occluded is None else occluded
    return Motion(field, batch(hidden), scale, **known)


def estimate(
    estimator: MotionEstimator,
    previous: np.ndarray,
    current: np.ndarray,
    scale: int,
    expected: np.ndarray | None = None,
) -> Motion:
    """One frame's, from thumbnails uint8 [h, w] and what is expected of it, [h, w, 2], by default rest."""
    rest = np.zeros((*current.shape, 2), dtype=np.float32)
    return estimator.estimate(
        batch(previous), batch(current), batch(rest if expected is None else expected), scale
    )


# What gates are told


def signals_of(shape: tuple[int, int], scene_cut: bool = False, **known: Any) -> BinSignals:
    """One frame's, from maps [bins_h, bins_w] or numbers; what is not given is 0."""
    names = [each.name for each in fields(BinSignals) if each.name != "scene_cut"]
    assert set(known) <= set(names)
    maps = {name: np.broadcast_to(np.float32(known.get(name, 0)), shape) for name in names}
    tensors = {name: batch(values) for name, values in maps.items()}
    return BinSignals(**tensors, scene_cut=torch.tensor([scene_cut]))


def arrays(signals: BinSignals) -> SimpleNamespace:
    """One frame's signals as arrays; ``scene_cut`` is a bool."""
    found = {each.name: only(getattr(signals, each.name)) for each in fields(signals)}
    return SimpleNamespace(**{**found, "scene_cut": bool(signals.scene_cut[0])})


def question(signals: BinSignals, units: int = 3, cells: Tensor | None = None, **figures: Any) -> GateInput:
    """What a gate is asked. ``figures``: see :func:`asked`. ``cells``: float32 [N, channels, h, w]."""
    usual = {"budget": 0.25, "credit": 0.0, "limit": 1.0, "since_whole": 1, "risk_scale": 1.0, "averaged": 0}
    usual |= {"since_source": 1, "refreshed": 0, "looks_ahead": False}
    unknown = {name: torch.zeros(0) for name in FIGURES}
    frames = GateInput(
        signals,
        units,
        **unknown,
        cells=None if cells is None else cells.__getitem__,
        doubt=_distorted(signals),
    )
    return asked(frames, **{**usual, **figures})


def _distorted(signals: BinSignals) -> Callable[[list[int]], Tensor]:
    """In place of doubt."""
    return lambda which: signals.distortion[which]


def asked(frames: GateInput, **figures: Any) -> GateInput:
    """The same with other figures: a number for all frames, or N of them."""
    count = len(frames.signals.age)
    tensors = {
        name: torch.as_tensor(value, dtype=FIGURES[name]).expand(count).clone()
        for name, value in figures.items()
    }
    return replace(frames, **tensors)


def with_signals(frames: GateInput, **known: Any) -> GateInput:
    """The same with other maps of all bins: tensors, or arrays [bins_h, bins_w] where it is one frame."""
    maps = {name: v if isinstance(v, Tensor) else batch(np.float32(v)) for name, v in known.items()}
    return replace(frames, signals=replace(frames.signals, **maps))


def together(frames: Sequence[GateInput]) -> GateInput:
    """Frames that are asked about one by one, asked about at once."""
    everything = joined(frames)
    return replace(
        everything,
        cells=lambda which: torch.cat([frames[i].cells([0]) for i in which]),
        doubt=_distorted(everything.signals),
    )
