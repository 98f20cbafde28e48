"""Files of gate weights: which network they belong to, and what they look at, is written in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tilestream.engine.gates.cells import CELL, SIGNALS
from tilestream.engine.gates.risk_net import RiskNet
from tilestream.messages import EngineError
from tilestream.models.registry import weights_path

_KIND = "tilestream gate"


def gate_path(model: str) -> Path:
    """Where the gate of a model lies: beside its weights."""
    path = weights_path(model)
    return path.with_name(path.stem + ".gate.safetensors")


def save_gate(network: RiskNet, model: str, path: Path) -> None:
    """Write the weights of ``model``'s gate."""
    facts = {
        "kind": _KIND,
        "model_sha256": _digest(weights_path(model)),
        "looks_at": _looks_at(),
        "classes": str(network.classes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path, metadata=facts)


def load_risk_net(model: str, path: Path | None = None) -> RiskNet:
    """The risk network of a model, by default the one beside its weights.

    Raises :class:`EngineError` where there is none, or where it was made for other weights.
    """
    path = path or gate_path(model)
    remedy = f"train one with `tilestream train-gate --model {model}`, or choose another gate"
    if not path.is_file():
        raise EngineError(f"model {model!r} has no learned gate ({path}); {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("kind") != _KIND:
                raise EngineError(f"{path} is not the weights of a gate; {remedy}")
            if facts["model_sha256"] != _digest(weights_path(model)):
                raise EngineError(f"{path} was trained for other weights than those of {model!r}; {remedy}")
            if facts["looks_at"] != _looks_at():
                raise EngineError(f"{path} was made by another version, for other inputs; {remedy}")
            network = RiskNet(int(facts["classes"]))
            network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EngineError(f"{path} cannot be read as the weights of a gate ({error}); {remedy}") from error
    return network.eval()


def _looks_at() -> str:
    return json.dumps({"cell": CELL, "signals": SIGNALS})


def _digest(path: Path) -> str:
    if not path.is_file():
        raise EngineError(f"the gate belongs to weights that are not there ({path}); choose another gate")
    return hashlib.sha256(path.read_bytes()).hexdigest()
