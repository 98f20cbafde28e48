"""The gates there are: each can be had by its name, and is what the table says of it."""

import pytest
import torch
from typer.testing import CliRunner

from support.batches import estimate
from support.textures import moved_pair
from tilestream.cli import app
from tilestream.config import ConfigError, Settings, load_settings
from tilestream.engine.gates.cells import SIGNALS
from tilestream.engine.gates.learned import LearnedGate
from tilestream.engine.gates.registry import AUTO, GATES, NAMES, gate_kind, gates_help, load_gate
from tilestream.engine.gates.risk_net import RiskNet
from tilestream.engine.gates.rules import EveryKGate
from tilestream.engine.gates.weights import load_risk_net, save_gate
from tilestream.messages import EngineError
from tilestream.models import list_models
from tilestream.models.registry import weights_path

MODEL = list_models()[0]
TRAINED = [name for name, kind in GATES.items() if kind.trained]
UNTRAINED = [name for name, kind in GATES.items() if not kind.trained]


@pytest.mark.parametrize("model", list_models())
@pytest.mark.parametrize("name", GATES)
def test_every_gate_can_be_made_and_is_what_is_said_of_it(name, model):
    kind = gate_kind(name, model)
    assert kind is GATES[name] and kind.name == name
    for gate in (kind.make(model, 64), load_gate(name, model, 64)):
        assert gate.reuses_features == kind.reuses_features
    motion = kind.motion()
    assert motion is not kind.motion()  # estimators hold buffers
    assert estimate(motion, *moved_pair(3, 1, 32, 48), 1).flow.any()


@pytest.mark.parametrize("name", UNTRAINED)
def test_gates_that_need_no_training_serve_any_network(name):
    assert gate_kind(name) is GATES[name]
    assert load_gate(name).reuses_features == GATES[name].reuses_features


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_gate_without_a_model_is_refused_with_what_there_is_instead(name):
    for ask in (gate_kind, load_gate):
        with pytest.raises(ValueError, match=rf"'{name}'.*trained.*{', '.join(UNTRAINED)}"):
            ask(name)


@pytest.mark.parametrize("model", [None, MODEL])
@pytest.mark.parametrize("name", ["best", "", "threshold", "nonsense"])
def test_unknown_names_are_refused_with_those_there_are(name, model):
    for ask in (gate_kind, load_gate):
        with pytest.raises(ValueError, match=rf"no gate is called '{name}'.*{', '.join(NAMES)}"):
            ask(name, model)


def test_names_are_those_of_the_table_and_auto():
    assert (AUTO, *GATES) == NAMES
    assert AUTO not in GATES and all(name == kind.name for name, kind in GATES.items())


def test_a_setting_takes_every_name_and_no_other():
    assert [load_settings({"gate": name}).gate for name in NAMES] == list(NAMES)
    with pytest.raises(ConfigError, match=", ".join(NAMES)):
        load_settings({"gate": "best"})
    assert Settings().gate in NAMES


def test_the_command_s_help_tells_of_every_gate():
    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "400", "TERM": "dumb"})
    text = " ".join(result.output.split())
    assert gates_help() in text
    for kind in GATES.values():
        assert f"{kind.name} ({kind.summary})" in text
    assert AUTO in text


def test_gates_are_found_by_name():
    assert isinstance(load_gate("every_k", MODEL, 64), EveryKGate)
    assert isinstance(load_gate("learned", MODEL, 64), LearnedGate)


def test_auto_is_the_learned_gate_where_there_is_one(tmp_path):
    assert isinstance(load_gate(AUTO, MODEL, 64), LearnedGate)
    alone = tmp_path / "mine.safetensors"
    alone.write_bytes(weights_path(MODEL).read_bytes())
    assert isinstance(load_gate(AUTO, str(alone), 64), EveryKGate)
    assert isinstance(load_gate(AUTO), EveryKGate)  # a network of one's own
    other = tmp_path / "mine.gate.safetensors"
    save_gate(RiskNet(11), "ddrnet23_slim", other)
    with pytest.raises(EngineError, match="trained for other weights"):
        load_gate(AUTO, str(alone), 64)


# Weights


def risk_net(seed: int) -> RiskNet:
    torch.manual_seed(seed)
    return RiskNet(11).eval()


def test_weights_come_back_as_they_were(tmp_path):
    saved = risk_net(7)
    save_gate(saved, MODEL, tmp_path / "gate.safetensors")
    loaded = load_risk_net(MODEL, tmp_path / "gate.safetensors")
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_weights_of_another_model_are_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights_path(MODEL).read_bytes() + b"\0")
    save_gate(risk_net(0), str(other), tmp_path / "gate.safetensors")
    with pytest.raises(EngineError, match=r"trained for other weights.*train-gate"):
        load_risk_net(MODEL, tmp_path / "gate.safetensors")


def test_weights_of_another_version_are_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tilestream.engine.gates.weights.SIGNALS", SIGNALS[:-1])
        save_gate(risk_net(0), MODEL, tmp_path / "gate.safetensors")
    with pytest.raises(EngineError, match=r"another version.*train-gate"):
        load_risk_net(MODEL, tmp_path / "gate.safetensors")


def test_what_is_no_gate_is_refused(tmp_path):
    with pytest.raises(EngineError, match="not the weights of a gate"):
        load_risk_net(MODEL, weights_path(MODEL))
    with pytest.raises(EngineError, match=r"has no learned gate.*train-gate"):
        load_risk_net(MODEL, tmp_path / "missing")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match="cannot be read"):
        load_risk_net(MODEL, damaged)
