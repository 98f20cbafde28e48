"""Gates as the registry makes them, and what they are asked."""

from __future__ import annotations

from functools import cache, lru_cache
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from support.batches import question, signals_of
from tilestream.engine.gates.cells import CELL, SIGNALS
from tilestream.engine.gates.gate import Gate, GateInput
from tilestream.engine.gates.registry import GATES
from tilestream.engine.gates.risk_net import RiskNet

CLASSES, BIN = 5, 64


@cache
def risk_net(seed: int = 0, classes: int = CLASSES) -> RiskNet:
    """What any network might have learned."""
    torch.manual_seed(seed)
    return RiskNet(classes).eval()


def make_gate(name: str, classes: int = CLASSES, bin_size: int = BIN) -> Gate:
    """The gate of that name; one that has to be trained judges at random."""
    with patch("tilestream.engine.gates.weights.load_risk_net", lambda model: risk_net(0, classes)):
        return GATES[name].make("", bin_size)


@lru_cache(maxsize=64)
def random_cells(seed: int, shape: tuple[int, int], classes: int = CLASSES) -> Tensor:
    """float32 [1, channels, h, w]."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.random((1, len(SIGNALS) + classes, *shape), dtype=np.float32))


@st.composite
def frames(draw: st.DrawFn, shape: tuple[int, int] | None = None) -> GateInput:
    """One frame of ``shape`` bins, of a drive or at rest, with any budget, credit and limit."""
    rows, columns = shape or draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    seed = draw(st.integers(0, 9999))
    random = np.random.default_rng(seed)
    highest = {"distortion": 40, "current": 20, "peak": 60, "age": 40, "motion": 8, "occluded": 0.3}
    # where nothing has happened bins are alike
    happens = random.random((rows, columns)) < draw(st.sampled_from([0.0, 0.75, 1.0]))
    maps = {name: random.uniform(0, high, (rows, columns)) * happens for name, high in highest.items()}
    side = BIN // CELL
    cells = random_cells(seed, (side * rows - 1, side * columns - 2))  # the frame fills no whole bins
    budget = draw(st.just(0.0) | st.floats(0.01, 1.0))
    return question(
        signals_of((rows, columns), draw(st.booleans()) and draw(st.booleans()), **maps),
        cells=cells,
        budget=budget,
        credit=draw(st.floats(-1.0, 1.0)) + budget,
        limit=draw(st.just(1.0) | st.floats(0.0, 1.0)),
        since_whole=draw(st.integers(1, 40)),
        since_source=draw(st.integers(1, 40)),
        refreshed=draw(st.integers(0, 3)),
        risk_scale=draw(st.floats(0.25, 4.0)),
        averaged=draw(st.integers(0, 4)),
    )
