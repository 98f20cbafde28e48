"""The gates there are. To add one, add a line to :data:`GATES`: flags, help, tables and tests follow from it.

Free of torch until a gate is made, so that settings can be checked before it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilestream.scheduling.rhythm import REFRESH

if TYPE_CHECKING:
    from tilestream.engine.gates.gate import Gate
    from tilestream.engine.motion.estimators import MotionEstimator

Make = Callable[[str, int], "Gate"]
"""Makes a gate for a model (name or weight file) and a bin size. Raises :class:`EngineError`."""


@dataclass(frozen=True, slots=True)
class GateKind:
    """A gate by name. ``make`` raises :class:`~tilestream.messages.EngineError` where that cannot be had.

    ``reuses_features``: see :class:`~tilestream.engine.gates.gate.Gate`. ``motion``: makes the estimate that
    suits it. ``trained``: whether it needs weights of its own for every model. ``summary``: one line that
    tells a user when to choose it.
    """

    name: str
    make: Make
    reuses_features: bool
    motion: Callable[[], MotionEstimator]
    trained: bool
    summary: str


def motion_for_labels() -> MotionEstimator:
    """For gates of which labels are all that is reused."""
    from tilestream.engine.motion.estimators import DisMotion

    return DisMotion()


def motion_for_bins() -> MotionEstimator:
    """For gates that choose bins by what the motion leaves: it has to be the better one."""
    from tilestream.engine.motion.estimators import DisMotion

    return DisMotion(patch_stride=4, patch_means=True)


def _every_k(model: str, bin_size: int) -> Gate:
    from tilestream.engine.gates.rules import EveryKGate

    return EveryKGate()


def _budget(model: str, bin_size: int) -> Gate:
    from tilestream.engine.gates.rules import BudgetGate

    return BudgetGate()


def _learned(model: str, bin_size: int) -> Gate:
    from tilestream.engine.gates.learned import LearnedGate
    from tilestream.engine.gates.weights import load_risk_net

    return LearnedGate(load_risk_net(model), bin_size)


def _learned_spread(model: str, bin_size: int) -> Gate:
    from tilestream.engine.gates.learned import LearnedGate
    from tilestream.engine.gates.weights import load_risk_net

    return LearnedGate(load_risk_net(model), bin_size, spread=True)


def _refresh(model: str, bin_size: int) -> Gate:
    from tilestream.engine.gates.refresh import RefreshGate

    return RefreshGate()


_labels, _bins = motion_for_labels, motion_for_bins
GATES = {
    kind.name: kind
    for kind in (
        GateKind("every_k", _every_k, False, _labels, False, "whole frames at the budget's rate"),
        GateKind("budget", _budget, True, _bins, False, "the bins that changed most, for any network"),
        GateKind(REFRESH, _refresh, True, _labels, False, "whole frames, and between them bins in doubt"),
        GateKind("learned", _learned, False, _labels, True, "whole frames, none while none would be wrong"),
        GateKind("learned_spread", _learned_spread, True, _bins, True, "the bins most likely wrong"),
    )
}

AUTO = "auto"
"""``learned`` for a model that has one, else ``every_k``."""

NAMES = (AUTO, *GATES)


def gates_help() -> str:
    """The gates, each with its line, for the help of a flag."""
    lines = ", ".join(f"{kind.name} ({kind.summary})" for kind in GATES.values())
    return f"{lines}; {AUTO}: learned where a model has a gate, else every_k"


def gate_kind(name: str, model: str | None = None) -> GateKind:
    """What is known of a gate, see also :data:`AUTO`. ``model``: name or weight file; None: another network.

    Raises ValueError for a name that there is not, or that ``model`` cannot have.
    """
    if name == AUTO:
        name = "learned" if model is not None and _has_weights(model) else "every_k"
    if name not in GATES:
        raise ValueError(f"no gate is called {name!r}; there are {', '.join(NAMES)}")
    if GATES[name].trained and model is None:
        others = ", ".join([AUTO, *(kind.name for kind in GATES.values() if not kind.trained)])
        raise ValueError(f"gate {name!r} has to be trained for a model; other networks have {others}")
    return GATES[name]


def load_gate(name: str, model: str | None = None, bin_size: int = 64) -> Gate:
    """The gate of that name for a model. Raises as :func:`gate_kind` and its ``make`` do."""
    return gate_kind(name, model).make(model or "", bin_size)


def _has_weights(model: str) -> bool:
    from tilestream.engine.gates.weights import gate_path

    return gate_path(model).is_file()
