"""Resident engines for tests, by default on the CPU, and clips for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from support.gates import make_gate
from support.reuse_engines import CPU, bin_size, network
from support.textures import texture
from tilestream.engine.gates.gate import Gate
from tilestream.engine.gates.registry import gate_kind
from tilestream.engine.ingest.ingest import Ingest
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.flow import Motion
from tilestream.engine.resident import motion, reference
from tilestream.engine.resident.engine import Decode, ResidentEngine
from tilestream.models import load_model
from tilestream_street import SyntheticStreet

TRAINED = "swiftnet_resnet18"
HEIGHT, WIDTH = 96, 160


@cache
def street() -> list[np.ndarray]:
    """Seven frames of a drive, uint8 [H, W, 3] each."""
    clip = SyntheticStreet(4, WIDTH, HEIGHT).frames(7)
    return [np.ascontiguousarray(frame.image) for frame in clip]


@cache
def pan(frames: int = 8, height: int = 64, width: int = 80, seed: int = 0) -> list[np.ndarray]:
    """A camera over a coloured texture, uint8 [H, W, 3] each: 2 pixels down and 3 to the right a frame."""
    high, wide = height + 2 * frames, width + 3 * frames
    scene = np.dstack([texture(high, wide, 3 * seed + channel) for channel in range(3)])
    return [np.ascontiguousarray(scene[2 * i : 2 * i + height, 3 * i : 3 * i + width]) for i in range(frames)]


def make_resident(
    module: nn.Module | str = "dilated",
    gate: str | Gate = "every_k",
    *,
    bin_size_: int | None = None,
    decode: Decode | None = None,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    **options,
) -> ResidentEngine:
    """Of a network or the name of one; those with names are lowered once, which takes longer than a step."""
    module, lowered, side = _shared(module)
    side = bin_size_ or side
    gate = make_gate(gate, bin_size=side) if isinstance(gate, str) else gate
    means = (module.mean, module.std)
    with mock.patch("tilestream.engine.resident.engine.lower", lowered):
        return ResidentEngine(
            module, device, dtype, *means, gate, decode or Ingest(device).decode, bin_size=side, **options
        )


def engine_pair(name: str, gate: str, **options) -> tuple[ResidentEngine, ModelEngine]:
    """A resident engine and the engine of the host, which sees the same motion."""
    module, lowered, side = _shared(name)
    made = gate_kind(gate, name).make(name, side)
    resident = make_resident(name, made, **options)
    means, reuse = (module.mean, module.std), ReuseOptions(bin_size=side, **options)
    with mock.patch("tilestream.engine.model_engine.lower", lowered):
        host = ModelEngine(module, CPU, torch.float32, *means, made, reuse, ResidentMotion())
    return resident, host


def _shared(module: nn.Module | str) -> tuple[nn.Module, Callable[..., TileProgram], int]:
    """A network, what lowers it, and its bins' side. Of a name always the same: engines leave it as it is."""
    if not isinstance(module, str):
        return module, lower, 16
    return _network(module), _lowered_once, bin_size(module)


@cache
def _network(name: str) -> nn.Module:
    """Of a trained one the weights that are shipped."""
    return load_model(TRAINED) if name == TRAINED else network(name)


_lowered_once = cache(lower)


class ResidentMotion:
    """The resident engine's motion as an estimator of the host."""

    def estimate(self, previous: Tensor, current: Tensor, expected: Tensor, scale: int) -> Motion:
        found = motion.estimate(reference, previous, current, expected.permute(0, 3, 1, 2))
        return Motion(
            found.flow.permute(0, 2, 3, 1).contiguous(),
            found.occluded,
            scale,
            found.residual.to(torch.uint8),
            found.still,
        )
