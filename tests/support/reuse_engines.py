"""Reuse engines on the CPU for tests, and what they should compute, found without them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from support.networks import lively
from support.toy_networks import TOYS, toy
from tilestream.engine.arrays import Mask
from tilestream.engine.gates.gate import Gate
from tilestream.engine.gates.rules import BudgetGate
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.estimators import MotionEstimator, NoMotion
from tilestream.engine.motion.flow import Motion
from tilestream.messages import Frame, Grant, Outcome, Picture, SessionSpec
from tilestream.models import list_models

CPU = torch.device("cpu")
SHIPPED = list_models()
EVERY_NETWORK = (*TOYS, *SHIPPED)
NEVER = 2.0  # a share of kept units that no frame reaches: all but whole frames are run on tiles


def network(name: str) -> nn.Module:
    return toy(name) if name in TOYS else lively(name)


def bin_size(name: str) -> int:
    return 16 if name in TOYS else 64


def make_engine(
    module: nn.Module | str,
    bin_size_: int | None = None,
    motion: MotionEstimator | None = None,
    dtype: torch.dtype = torch.float32,
    store_bytes: int = 128 << 20,
    dense_above: float = NEVER,
    gate: Gate | None = None,
    **options,
) -> ModelEngine:
    """Of a network or the name of one; those with names are lowered once, which takes longer than a step."""
    size, lowered = bin_size_ or (bin_size(module) if isinstance(module, str) else 16), lower
    if isinstance(module, str):
        module, lowered = _shared_network(module), _lowered_once
    chosen = ReuseOptions(bin_size=size, store_bytes=store_bytes, dense_above=dense_above, **options)
    gate, motion = gate or BudgetGate(), motion or NoMotion()
    with mock.patch("tilestream.engine.model_engine.lower", lowered):
        return ModelEngine(module, CPU, dtype, module.mean, module.std, gate, chosen, motion)


_shared_network = cache(network)  # engines leave it as it is
_lowered_once = cache(lower)


@dataclass(frozen=True)
class Ask:
    """One frame of one session, and what is asked of it."""

    session_id: str
    image: np.ndarray
    whole: bool = False
    budget: float = 1.0
    keep: bool | Mask | None = None
    confidence: bool = False
    retain: bool = True
    limit: float = 1.0
    phase: float = 0.0


def run(engine: ModelEngine, asked: list[Ask]) -> list[Outcome]:
    """A step; sessions are opened, or told what is asked of them now."""
    work = []
    for ask in asked:
        known = engine._specs.get(ask.session_id)
        confidence = ask.confidence or (known is not None and known.confidence)
        engine.open(
            SessionSpec(
                ask.session_id, "", confidence=confidence, bins=True, phase=ask.phase, retain=ask.retain
            )
        )
        size = (ask.image.shape[1], ask.image.shape[0])
        frame = Frame(ask.session_id, 0, Picture(*size, size, ask.image), ask.whole)
        work.append((frame, Grant(ask.budget, ask.limit)))
    forced = {ask.session_id: ask.keep for ask in asked if ask.keep is not None}
    outcomes = engine.step(work, forced)
    return [o if a.confidence else replace(o, confidence=None) for o, a in zip(outcomes, asked, strict=True)]


def step(engine: ModelEngine, session_id: str, image: np.ndarray, **asked) -> Outcome:
    """One frame of one session."""
    return run(engine, [Ask(session_id, image, **asked)])[0]


def seen(module: nn.Module, stride: int, image: np.ndarray) -> Tensor:
    """What a network sees of a frame: normalised, padded to a multiple of ``stride`` at bottom and right."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
    x = (x - torch.tensor(module.mean).view(1, 3, 1, 1)) / torch.tensor(module.std).view(1, 3, 1, 1)
    height, width = image.shape[:2]
    return F.pad(x, (0, -width % stride, 0, -height % stride))


def module_logits(module: nn.Module, stride: int, image: np.ndarray) -> Tensor:
    """The module called as its docstring says, float [classes, H, W]."""
    height, width = image.shape[:2]
    with torch.no_grad():
        return module(seen(module, stride, image))[0, :, :height, :width]


class Recorder(fx.Interpreter):
    """Runs a program's graph node by node; ``values``: what each gave."""

    def __init__(self, program: TileProgram) -> None:
        super().__init__(program.graph)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.values[n.name] = result
        return result


def expected_maps(program: TileProgram, module: nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """The maps that are kept, float [C, H, W], from the traced graph in fp32."""
    recorder = Recorder(program)
    with torch.no_grad():
        recorder.run(seen(module, program.stride, image))
    return {node.name: recorder.values[node.name][0].numpy() for node in program.kept}


def kept_maps(engine: ModelEngine, session_id: str) -> dict[str, np.ndarray]:
    """The maps that a session has now, float [C, H, W]: what its references refer to."""
    references = engine._sessions[session_id].features.maps
    found = {}
    for node in engine.program.kept:
        rows = torch.from_numpy(references[node.stride].inner.astype(np.int64))
        values = engine.features.store.maps[node.name].index_select(0, rows.ravel()).float()
        found[node.name] = values.view(*rows.shape, -1).permute(2, 0, 1).numpy().copy()
    return found


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def worst_difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference of two sets of maps, relative to the largest value of the map that it is in."""
    assert found.keys() == expected.keys()
    assert all(found[name].shape == expected[name].shape for name in found)
    scales = {name: max(np.abs(value).max(), 1e-6) for name, value in expected.items()}
    return max(float(np.abs(found[name] - expected[name]).max() / scales[name]) for name in found)


def lost_by_labels(labels: np.ndarray, logits: Tensor) -> float:
    """How far the labelled class's logit is below the best one at most, relative to the logits' range.

    Where rounding decides between two classes, either will do.
    """
    chosen = logits.gather(0, torch.from_numpy(labels).long()[None])[0]
    return float((logits.max(dim=0).values - chosen).max() / (logits.max() - logits.min()))


class Shift:
    """A motion estimator that always says the same: ``x``, ``y`` image pixels to where things were."""

    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y

    def estimate(self, previous, current, expected, scale) -> Motion:
        flow = torch.empty((*current.shape, 2))
        flow[...] = torch.tensor([self.x / scale, self.y / scale])
        return Motion(flow, torch.zeros(current.shape, dtype=torch.bool), scale)


def check_pages(engine: ModelEngine) -> None:
    """Every page is free or of one session that is known; each session refers to its own pages only."""
    usage = engine.features.store.usage()
    assert set(usage.per_session) <= set(engine._sessions)
    assert usage.in_use == sum(usage.per_session.values()) <= usage.reserved
    for stride, pool in engine.features.store.pools.items():
        owners = {session: engine.features.store._owners[session] for session in usage.per_session}
        owned = [pool.owned(owner) for owner in owners.values()]
        pages = np.concatenate([*owned, np.array(pool._free, dtype=np.int64)])
        assert np.array_equal(np.sort(pages), np.arange(pool.capacity))
        for session, state in engine._sessions.items():
            if state.features is not None and state.features.maps:
                live = state.features.maps[stride].inner // engine.program.tile(stride) ** 2
                assert np.isin(live, pool.owned(owners[session])).all()
