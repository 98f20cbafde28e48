"""A system without a folder for temporary files: the server starts all the same, or says what is missing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from support.networks import write_weights
from support.processes import environment
from tilestream.engine.lowering.lower import lower
from tilestream.temporary import NoTemporaryFolderError, ensure_temporary_folder

_MOUNTS = """
for folder in /tmp /var/tmp $READ_ONLY; do mount -t tmpfs -o ro,size=1m none $folder || exit 77; done
mount --bind / / && mount -o remount,bind,ro / || exit 77
cd / && exec "$@"
"""


def read_only(*words: str, also: str = "") -> subprocess.Popen:
    """A command for which everything is read-only, but /dev/shm unless that is named, too."""
    everything = {**environment(), "READ_ONLY": also, "PYTHONDONTWRITEBYTECODE": "1"}
    everything.pop("TORCHINDUCTOR_CACHE_DIR", None)  # PyTorch sets it once it has compiled anything here
    everything.pop("TMPDIR", None)
    unshare = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    words = (*unshare, "sh", "-c", _MOUNTS, "sh", *words)
    return subprocess.Popen(
        words, env=everything, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def can_be_made() -> bool:
    return shutil.which("unshare") is not None and read_only("true").wait(60) == 0


needs_mounts = pytest.mark.skipif(
    not can_be_made(), reason="nothing can be mounted here: A READ-ONLY ROOT IS NOT CHECKED"
)
SERVE = (sys.executable, "-m", "tilestream", "serve", "--port", "0", "--threads", "1", "--device", "cpu")


@pytest.fixture
def weights():
    """A small network, in a folder that stays visible where /tmp is covered."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        yield str(write_weights(Path(folder) / "random.safetensors"))


@needs_mounts
@pytest.mark.e2e
@pytest.mark.parametrize("engines", ["0", "1"])
def test_a_server_starts_on_a_read_only_root(weights, engines):
    server = read_only(*SERVE, "--models", weights, "--engines", engines)
    try:
        lines = iter(server.stdout.readline, "")
        log = "".join(line for line in _up_to(lines, "serving address="))
        assert "serving address=" in log and "instead=/dev/shm" in log, log
        assert "encoder" not in log and "Traceback" not in log
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=120)
    assert server.returncode == 0


def _up_to(lines, end):
    for line in lines:
        yield line
        if end in line:
            return


@needs_mounts
def test_without_any_folder_the_server_says_what_is_missing():
    server = read_only(*SERVE, also="/dev/shm")
    output, _ = server.communicate(timeout=240)
    assert server.returncode == 1
    assert "cannot start: no folder for temporary files" in output and "--tmpfs /tmp" in output
    listing = read_only(sys.executable, "-m", "tilestream", "models", also="/dev/shm")
    output, _ = listing.communicate(timeout=240)
    assert listing.returncode == 1 and output.startswith("tilestream models: no folder for temporary files")


@pytest.fixture
def no_usual_folder(monkeypatch, tmp_path):
    """As where the usual folders are full: none of them takes a byte."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")


def test_another_folder_is_taken_for_this_process_and_its_children(no_usual_folder, tmp_path):
    ensure_temporary_folder([Path("/proc"), tmp_path])
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_all_folders_that_were_tried_are_named(no_usual_folder):
    with pytest.raises(NoTemporaryFolderError, match=r"/proc/nowhere, /proc are read-only or full"):
        ensure_temporary_folder([Path("/proc")])


def test_a_fault_of_the_system_is_not_told_as_one_of_the_model(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.fx.Interpreter, "run_node", full)
    with pytest.raises(OSError, match="No space left"):
        lower(nn.Conv2d(3, 3, 3, padding=1))
