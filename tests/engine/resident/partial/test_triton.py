"""Triton's kernels do what plain torch does. Their interpreter has to be chosen before triton is imported."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")


def test_kernels_do_what_plain_torch_does():
    path = os.pathsep.join(filter(None, sys.path))
    ran = subprocess.run(
        [sys.executable, "-m", "support.triton_against_torch"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout.strip(), ran.returncode) == ("the same", 0), ran.stderr[-2000:]
