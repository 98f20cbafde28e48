import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tilestream import __version__
from tilestream import cli as module
from tilestream.config import Settings

runner = CliRunner()
WIDE = {"COLUMNS": "400", "TERM": "dumb"}


def test_version():
    assert runner.invoke(module.app, ["--version"]).output == f"tilestream {__version__}\n"


def test_serve_help_documents_every_setting():
    result = runner.invoke(module.app, ["serve", "--help"], env=WIDE)
    assert result.exit_code == 0
    text = "".join(result.output.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text, name
        assert "".join(field.description.split()) in text, name
        assert f"TILESTREAM_{name.upper()}" in text, name


def test_flags_become_settings(monkeypatch):
    given = []
    monkeypatch.setattr("tilestream.server.run_server", lambda settings: given.append(settings) or 0)
    monkeypatch.setenv("TILESTREAM_MAX_BATCH", "7")
    flags = [
        "--port",
        "0",
        "--models",
        "a,b",
        "--no-reflection",
        "--grace-period",
        "2.5",
        "--port-file",
        "/tmp/p",
    ]
    assert runner.invoke(module.app, ["serve", *flags]).exit_code == 0
    (settings,) = given
    assert (settings.port, settings.models, settings.reflection) == (0, ("a", "b"), False)
    assert (settings.grace_period, settings.max_batch, str(settings.port_file)) == (2.5, 7, "/tmp/p")


def test_the_server_s_status_is_the_command_s(monkeypatch):
    monkeypatch.setattr("tilestream.server.run_server", lambda settings: 1)
    assert runner.invoke(module.app, ["serve"]).exit_code == 1


@pytest.mark.parametrize(
    ("flag", "value"), [("--port", "99999"), ("--precision", "int8"), ("--log-level", "loud")]
)
def test_wrong_flags_are_named(flag, value):
    result = runner.invoke(module.app, ["serve", flag, value])
    assert result.exit_code == 2
    assert flag[2:].replace("-", "_") in result.output and value in result.output


def test_help_imports_neither_torch_nor_grpc():
    code = (
        "import sys; from typer.testing import CliRunner; from tilestream.cli import app;"
        "r = CliRunner().invoke(app, ['serve', '--help']); assert r.exit_code == 0, r.output;"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0 and 'train' in r.output, r.output;"
        "heavy = {'torch', 'grpc', 'cv2', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": _path()})


def test_the_frontend_imports_no_torch():
    code = (
        "import sys, tilestream.server, tilestream.api.servicer, tilestream.sessions.registry;"
        "import tilestream.web.site;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": _path()})


def test_scheduling_and_sessions_import_no_grpc():
    code = (
        "import importlib, pkgutil, sys, tilestream.scheduling, tilestream.sessions\n"
        "for package in (tilestream.scheduling, tilestream.sessions):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "assert not {'torch', 'grpc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": _path()})


def _path() -> str:
    return os.pathsep.join(path for path in sys.path if path)
