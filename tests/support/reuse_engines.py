"""Reuse engines on the CPU for tests, and what they should compute, found without them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from support.networks import lively
from support.toy_networks import TOYS, toy
from tilestream.engine.frame import FrameAnswer, FrameRequest
from tilestream.engine.gates.gate import Gate
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.model_engine import ReuseEngine, ReuseOptions
from tilestream.engine.motion.estimators import Motion, MotionEstimator, NoMotion

CPU = torch.device("cpu")
SHIPPED = ("swiftnet_resnet18", "ddrnet23_slim")
EVERY_NETWORK = (*TOYS, *SHIPPED)
NEVER = 2.0  # a share of kept units that no frame reaches: all but key frames are run on tiles


def network(name: str) -> nn.Module:
    return toy(name) if name in TOYS else lively(name)


def bin_size(name: str) -> int:
    return 16 if name in TOYS else 64


def make_engine(
    module: nn.Module | str,
    bin_size_: int | None = None,
    motion: MotionEstimator | None = None,
    dtype: torch.dtype = torch.float32,
    store_bytes: int = 64 << 20,
    dense_above: float = NEVER,
    gate: Gate | None = None,
    **options,
) -> ReuseEngine:
    size = bin_size_ or (bin_size(module) if isinstance(module, str) else 16)
    module = network(module) if isinstance(module, str) else module
    chosen = ReuseOptions(bin_size=size, store_bytes=store_bytes, dense_above=dense_above, **options)
    return ReuseEngine(module, CPU, dtype, module.mean, module.std, chosen, gate, motion or NoMotion())


def step(engine: ReuseEngine, session_id: str, image: np.ndarray, **request) -> FrameAnswer:
    """One frame of one session."""
    return engine.step([FrameRequest(session_id, image, **request)])[0]


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


def kept_maps(engine: ReuseEngine, session_id: str) -> dict[str, np.ndarray]:
    """The maps that a session has now, float [C, H, W]: what its references refer to."""
    references = engine._sessions[session_id].maps
    found = {}
    for node in engine.program.kept:
        rows = torch.from_numpy(references[node.stride].inner.astype(np.int64))
        values = engine.store.maps[node.name].index_select(0, rows.ravel()).float()
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

    def estimate(self, previous, current, scale, expected=None) -> Motion:
        flow = np.empty((*current.shape, 2), dtype=np.float32)
        flow[...] = self.x / scale, self.y / scale
        return Motion(flow, np.zeros(current.shape, dtype=np.bool_), scale)


def check_pages(engine: ReuseEngine) -> None:
    """Every page is free or of one session that is known; each session refers to its own pages only."""
    usage = engine.store.usage()
    assert set(usage.per_session) <= set(engine._sessions)
    assert usage.in_use == sum(usage.per_session.values()) <= usage.reserved
    for stride, pool in engine.store.pools.items():
        owners = {session: engine.store._owners[session] for session in usage.per_session}
        owned = [pool.owned(owner) for owner in owners.values()]
        pages = np.concatenate([*owned, np.array(pool._free, dtype=np.int64)])
        assert np.array_equal(np.sort(pages), np.arange(pool.capacity))
        for session, state in engine._sessions.items():
            if state.maps:
                live = state.maps[stride].inner // engine.program.tile(stride) ** 2
                assert np.isin(live, pool.owned(owners[session])).all()
