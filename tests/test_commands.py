"""Commands of other packages: found by entry points, listed without being imported."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from support.packages import install
from support.processes import environment
from tilestream import commands

runner = CliRunner()
WIDE = {"COLUMNS": "400", "TERM": "dumb"}
TRAINING = Path(__file__).resolve().parents[1] / "training"
SOURCE = '''"""A group."""
import typer

group = typer.Typer()
seen = []


@group.command("one")
def one(number: int) -> None:
    seen.append(("one", number))


@group.command("two")
def two() -> None:
    pass


def function(name: str) -> None:
    """A function.

    With more to say.
    """
    seen.append(("f", name))
'''


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("serve")(lambda: None)
    app.command("models")(lambda: None)
    return app


def test_installed_commands_get_their_arguments(app, tmp_path, monkeypatch):
    entries = {"group": "others_one:group", "function": "others_one:function"}
    install(tmp_path, monkeypatch, "others_one", SOURCE, tilestream_commands=entries)
    commands.add_installed_commands(app, {"serve", "models"})
    text = runner.invoke(app, ["--help"], env=WIDE).output
    assert "A group." in text and "A function." in text and "more to say" not in text
    assert "others_one" not in sys.modules
    assert runner.invoke(app, ["group", "one", "5"]).exit_code == 0
    assert runner.invoke(app, ["function", "x"]).exit_code == 0
    assert runner.invoke(app, ["function", "--bogus"]).exit_code == 2
    assert "With more to say." in runner.invoke(app, ["function", "--help"], env=WIDE).output
    assert sys.modules["others_one"].seen == [("one", 5), ("f", "x")]


def test_none_takes_the_place_of_the_server_s_own(app, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "others_two", SOURCE, tilestream_commands={"serve": "others_two:function"})
    commands.add_installed_commands(app, {"serve", "models"})
    assert "A function." not in runner.invoke(app, ["--help"], env=WIDE).output
    assert runner.invoke(app, ["serve"]).exit_code == 0


def test_a_broken_command_names_its_package(app, tmp_path, monkeypatch):
    entries = {"broken": "others_three:function", "gone": "others_three:nosuch", "lost": "nosuch_at_all:x"}
    install(tmp_path, monkeypatch, "others_three", "import nosuch_library", tilestream_commands=entries)
    commands.add_installed_commands(app, {"serve"})
    assert "Of others_three." in runner.invoke(app, ["--help"], env=WIDE).output
    for name, why in (("broken", "nosuch_library"), ("lost", "nosuch_at_all")):
        result = runner.invoke(app, [name])
        assert result.exit_code == 1 and "others_three cannot be loaded" in result.output
        assert why in result.output


def test_commands_of_training_say_how_to_get_them_where_it_is_not_installed(app, monkeypatch):
    monkeypatch.setattr(commands, "entry_points", lambda group: [])
    commands.add_installed_commands(app, {"serve", "models"})
    for name in commands.TRAINING:
        result = runner.invoke(app, [name, "--data", "x"])
        assert result.exit_code == 2 and "pip install tilestream-training" in result.output
    text = runner.invoke(app, ["--help"], env=WIDE).output
    assert "pip install tilestream-training" in text and "train-masked" in text
    assert "Not installed." not in text


def test_training_declares_its_commands():
    facts = tomllib.loads((TRAINING / "pyproject.toml").read_text())
    entries = facts["project"]["entry-points"][commands.GROUP]
    assert set(entries) == set(commands.TRAINING)
    for value in entries.values():
        module, _, attribute = value.partition(":")
        tree = ast.parse((TRAINING / f"{module.replace('.', '/')}.py").read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        names |= {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
        assert attribute in names


def test_help_is_complete_and_imports_nothing_of_what_it_lists(tmp_path, monkeypatch):
    source = '"""Explodes."""\nraise SystemExit("was imported")'
    install(tmp_path, monkeypatch, "others_four", source, tilestream_commands={"explode": "others_four:x"})
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tilestream", "--help"],
        capture_output=True, text=True, check=True, env={**environment(), **WIDE},
    )  # fmt: skip
    for name in ("serve", "models", "top", "health", "explode", *commands.TRAINING):
        assert name in result.stdout, name
    assert "Explodes." in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert not {"torch", "grpc", "cv2", "numpy"} & imported
