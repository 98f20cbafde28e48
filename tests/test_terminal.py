"""What commands write: in a pipe that is closed, in any encoding, whatever names say."""

import importlib.resources
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import environment
from tilestream.terminal import printable

SERVER, CLIENT = (sys.executable, "-m", "tilestream"), (sys.executable, "-m", "tilestream_client")
ENCODINGS = ["ascii", "cp1252", "latin-1", "cp437", "utf-8"]


def run(*words: str, **variables: str) -> subprocess.CompletedProcess:
    everything = {**environment(), **variables}
    return subprocess.run(words, env=everything, capture_output=True, check=False, timeout=240)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("front [/gate 3]", "front [/gate 3]"),
        ("Straße 北", "Straße 北"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\u202eevil", r"\u202eevil"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("\u2028", r"\u2028"),
        (os.fsdecode(b"img_\xff.jpg"), r"img_\udcff.jpg"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_not_printable_is_shown_escaped(name, shown):
    assert printable(name) == shown
    assert printable(name).isprintable()


@pytest.mark.parametrize("module", ["terminal", "proxies"])
def test_server_and_client_have_the_same(module):
    ours = Path(importlib.resources.files("tilestream") / f"{module}.py").read_text().splitlines()
    name = "cli/terminal" if module == "terminal" else module
    theirs = Path(importlib.resources.files("tilestream_client") / f"{name}.py").read_text().splitlines()
    differing = [line for line, other in zip(ours, theirs, strict=True) if line != other]
    assert len(differing) == 1 and "has the same" in differing[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", [SERVER, CLIENT], ids=["server", "client"])
def test_any_encoding_of_the_output_will_do(command, encoding):
    commands = ["serve", "top"] if command is SERVER else ["stream", "sessions"]
    for name in commands:
        done = run(*command, name, "--help", PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert "--server" in done.stdout.decode(encoding) or name == "serve"


@pytest.mark.parametrize("command", [SERVER, CLIENT], ids=["server", "client"])
def test_no_help_is_cut_on_80_columns(command):
    for words in ([], ["serve"] if command is SERVER else ["stream"]):
        text = run(*command, *words, "--help", COLUMNS="80").stdout.decode()
        assert "..." not in text.replace("[OPTIONS] COMMAND [ARGS]...", "") and "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def closed_after(*words: str, lines: int = 0) -> tuple[int, bytes]:
    """The exit status of a command whose output is read up to so many lines, and what it said of errors."""
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    return process.wait(240), said


@pytest.mark.parametrize("words", [("serve", "--help"), ("models",), ("--version",)], ids=" ".join)
def test_a_closed_pipe_decides_no_exit_status(words):
    assert closed_after(*SERVER, *words) == (0, b"")


def test_what_fails_fails_with_a_closed_pipe_too():
    status, said = closed_after(*SERVER, "health", "--server", "127.0.0.1:1")
    assert status == 1 and b"UNAVAILABLE" in said and b"Traceback" not in said


def test_a_closed_error_output_changes_no_exit_status():
    words = [*SERVER, "health", "--server", "127.0.0.1:1"]
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    process.stderr.close()
    assert process.wait(240) == 1
