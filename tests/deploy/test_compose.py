"""The whole stack in containers, looked at from outside. Minutes: only with --docker."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import environment

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = 77


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_the_stack_works_and_prometheus_says_what_the_client_saw():
    command = [sys.executable, "-m", "tools.compose_check"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT)
    if result.returncode == SKIPPED:
        pytest.skip(result.stderr.strip().splitlines()[-1])
    assert result.returncode == 0, result.stdout + result.stderr
    assert "compose-check: passed" in result.stdout
