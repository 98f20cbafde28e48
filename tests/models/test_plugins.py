"""Networks of other packages: listed, loaded and served by name, refused in words where they do not fit."""

import pytest
import torch
from typer.testing import CliRunner

from support.packages import install
from tilestream.cli import app
from tilestream.engine import EngineOptions, create_engine
from tilestream.messages import EngineError
from tilestream.models import ModelError, list_models, list_plugins, load_model
from tilestream.models.registry import weights_path

SOURCE = """
from torch import nn

from tilestream.models import build_model, describe


def tiny():
    model = build_model("ddrnet23_slim", 2)
    model.info = describe(model, "anything", ("road", "car"), ((1, 2, 3), (4, 5, 6)), "A tiny one")
    return model


def bare():
    return nn.Conv2d(3, 2, 1)


def unpainted():
    model = tiny()
    model.info = describe(model, "x", ("road", "car"), ((1, 2, 3),))
    model.mean = 0.5
    return model


def exploding():
    raise RuntimeError("no disk")


def text():
    return "tiny"
"""
NAMES = ("tiny", "bare", "unpainted", "exploding", "text")


@pytest.fixture
def others(tmp_path, monkeypatch, request):
    """A package with the models that the test names."""
    module = f"others_{request.node.name.translate(str.maketrans('[]-', '___'))}"
    names = getattr(request, "param", ("tiny",))
    install(
        tmp_path, monkeypatch, module, SOURCE, tilestream_models={name: f"{module}:{name}" for name in names}
    )
    return tmp_path


def test_a_model_of_another_package_is_loaded_by_its_name(others):
    assert list_plugins() == ("tiny",)
    model = load_model("tiny")
    assert model.info.name == "tiny" and model.info.description == "A tiny one"
    assert model.info.parameters == sum(p.numel() for p in model.parameters())
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)
    assert weights_path("tiny") == others / "tiny.safetensors"


def test_it_is_listed_and_explained_like_those_that_are_shipped(others):
    listed = CliRunner().invoke(app, ["models"])
    assert listed.exit_code == 0, listed.output
    assert "tiny: A tiny one" in listed.output and "classes: road, car" in listed.output
    assert all(f"{name}: " in listed.output for name in list_models())
    explained = CliRunner().invoke(app, ["models", "--explain", "tiny"])
    assert explained.exit_code == 0, explained.output
    assert "MAC" in explained.output


def test_it_is_served_where_it_is_named_only(others):
    engine = create_engine(EngineOptions(models=("tiny",), device="cpu", precision="fp32"))
    assert [info.name for info in engine.info.models] == ["tiny"]
    assert "tiny" not in list_models()
    with pytest.raises(EngineError, match="other packages have tiny"):
        create_engine(EngineOptions(models=("nosuch",), device="cpu", precision="fp32"))


@pytest.mark.parametrize("others", [NAMES], indirect=True)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bare", "mean has to be.*std has to be.*stride has to be.*info has to be a ModelInfo"),
        ("unpainted", "mean has to be three numbers.*2 classes and 1 colours"),
        ("exploding", "cannot be loaded: RuntimeError: no disk"),
        ("text", "it is a str, not an nn.Module"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(others, name, words):
    with pytest.raises(ModelError, match=f"model '{name}' of others_.*{words}"):
        load_model(name)


@pytest.mark.parametrize("others", [("exploding", "tiny")], indirect=True)
def test_one_that_fails_does_not_hide_the_others(others):
    listed = CliRunner().invoke(app, ["models"])
    assert listed.exit_code == 1
    assert "no disk" in listed.output and "tiny: A tiny one" in listed.output


def test_two_packages_with_one_name_are_told(others, monkeypatch):
    install(others, monkeypatch, "others_again", SOURCE, tilestream_models={"tiny": "others_again:tiny"})
    with pytest.raises(ModelError, match=r"several packages have a model 'tiny': others_\w+, others_\w+"):
        load_model("tiny")


def test_a_module_that_is_gone_is_named(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "others_gone", SOURCE, tilestream_models={"gone": "others_nowhere:gone"})
    for ask in (load_model, weights_path):
        with pytest.raises(ModelError, match=r"model 'gone' of others_gone cannot be loaded.*others_nowhere"):
            ask("gone")
