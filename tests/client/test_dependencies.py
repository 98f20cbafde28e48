"""The client alone, with the lowest of all its bounds and with the newest releases, as users install it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest

from tilestream_client import jpeg

PACKAGE = Path(__file__).resolve().parents[2] / "client" / "python"
BOUND = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)>=(?P<lowest>[0-9.]+)")


def bounds() -> dict[str, str]:
    """The lowest release of each dependency, by its name."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    found = [BOUND.match(each) for each in project["dependencies"]]
    assert all(found), "each dependency has a lower bound"
    return {each["name"]: each["lowest"] for each in found}


def installed(folder: Path, *words: str) -> Path:
    """A virtual environment with the client of this tree; its folder of commands."""
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    venv.create(folder / "venv", with_pip=True)
    commands = folder / "venv" / "bin"
    pip = (commands / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-cache-dir")
    done = subprocess.run([*pip, *words, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return commands


@pytest.mark.long
@pytest.mark.parametrize("releases", ["lowest", "newest"])
def test_the_client_works_with_what_its_bounds_allow(serve, tmp_path, releases):
    chosen = tmp_path / "constraints.txt"
    lowest = "".join(f"{name}=={release}\n" for name, release in bounds().items())
    chosen.write_text(lowest if releases == "lowest" else "")
    commands = installed(tmp_path, "-c", str(chosen))

    def run(*words: object) -> str:
        command = [commands / "tilestream-client", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        return done.stdout

    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        (frames / f"{number}.jpg").write_bytes(jpeg.encode(np.full((32, 48, 3), 40 * number, np.uint8)))
    server = serve(sessions=2)
    for words in ((), ("stream",), ("load",), ("sessions",), ("models",), ("info",)):
        assert "Usage" in run(*words, "--help")
    outputs = ("--out", "o.mp4", "--json", "s.json", "--masks", "masks", "--contact-sheet", "sheet.png")
    assert "3 of 3 frames" in run("stream", frames, "--server", server.target, *outputs)
    assert json.loads((tmp_path / "s.json").read_text())["frames_ok"] == 3
    assert "3 of 3 frames" in run("stream", tmp_path / "o.mp4", "--server", server.target)
    assert "s1" in run("sessions", "--server", server.target)
    assert "fake" in run("models", "--server", server.target)
    run("load", "--server", server.target, "--sessions", 2, "--seconds", 0.5)
