"""Triton's kernels against plain torch, in its interpreter, where Triton is installed."""

import os
import subprocess
import sys

import pytest


def test_kernels_agree_with_plain_torch():
    pytest.importorskip("triton")
    paths = os.pathsep.join(sys.path)
    found = subprocess.run(
        [sys.executable, "-m", "support.triton_kernels"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert found.returncode == 0, found.stdout + found.stderr[-3000:]
    assert found.stdout.strip() == "wrong:"
