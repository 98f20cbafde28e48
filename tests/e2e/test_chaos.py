"""A hundred clients of all kinds, some of them killed, against a real server whose engine is killed too."""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from support.networks import write_weights
from support.processes import environment, free_port, served
from support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("TILESTREAM_CHAOS_SECONDS", "60"))  # of the long one
SWARMS, CLIENTS = 5, 20  # processes, and clients in each


class Watched:
    """A server process, seen from outside."""

    def __init__(self, pid: int, metrics_port: int) -> None:
        self.pid, self._metrics_port = pid, metrics_port

    def metric(self, name: str) -> float:
        """The sum over all series of that name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        found = [line.rsplit(" ", 1) for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(value) for _, value in found)

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def memory(self) -> int:
        """Resident, bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def engine(self, log: Path) -> int:
        """The process that computes."""
        started = [line for line in log.read_text().splitlines() if "engine process started pid=" in line]
        return int(started[-1].rsplit("=", 1)[1])

    def kill_engine(self, log: Path) -> None:
        """If it has not just died by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.engine(log), signal.SIGKILL)

    def wait_until_empty(self) -> None:
        for name in ("tilestream_sessions", "tilestream_feature_store_pages"):
            wait_until(lambda name=name: self.metric(name) == 0)


def swarm(port: int, seconds: float, seed: int, report: Path) -> subprocess.Popen:
    arguments = [str(value) for value in (port, CLIENTS, seconds, seed, report)]
    return subprocess.Popen([sys.executable, "-m", "support.swarm", *arguments], env=environment())


def storm(server: Watched, port: int, log: Path, seconds: float, seed: int, report: Path) -> None:
    """All swarms at once; now and then one is killed and another one comes, and so with the engine."""
    order, end = random.Random(seed), time.monotonic() + seconds
    swarms = [swarm(port, seconds, seed * 100 + i, report) for i in range(SWARMS)]
    engine_dies = time.monotonic() + seconds / 2
    while (left := end - time.monotonic()) > 3:
        time.sleep(min(order.uniform(2.0, 5.0), left - 2))
        victim = order.randrange(SWARMS)
        swarms[victim].kill()
        swarms[victim].wait()
        swarms[victim] = swarm(port, max(1.0, end - time.monotonic()), order.randrange(10**6), report)
        if time.monotonic() > engine_dies:
            engine_dies = math.inf
            server.kill_engine(log)
    if engine_dies < math.inf:  # too short or too slow for it to have come to that
        server.kill_engine(log)
    for one in swarms:
        assert one.wait(600) == 0


@pytest.mark.parametrize("seconds", [6.0, pytest.param(SECONDS, marks=pytest.mark.long)])
def test_nothing_is_lost_mixed_up_or_left_behind(tmp_path, seconds):
    weights = write_weights(tmp_path / "random.safetensors")
    metrics_port = free_port()
    flags = ("--models", str(weights), "--gate", "budget", "--engines", "1", "--resume-ttl", "2")
    flags += ("--metrics-port", str(metrics_port), "--max-sessions", "128", "--min-block-budget", "0.05")
    flags += ("--feature-memory", str(64 << 20), "--retry-delay", "0.5", "--service-level", "1")
    report = tmp_path / "report"
    with served(tmp_path, *flags) as (process, port):
        server, log = Watched(process.pid, metrics_port), tmp_path / "server.log"
        storm(server, port, log, seconds / 4, 1, report)  # the first use of everything
        server.wait_until_empty()
        time.sleep(1.0)  # connections of the killed
        before = server.descriptors(), server.threads(), server.memory()
        storm(server, port, log, seconds, 2, report)
        server.wait_until_empty()
        wait_until(lambda: server.descriptors() <= before[0] + 2 and server.threads() <= before[1] + 4)
        after = server.descriptors(), server.threads(), server.memory()
        assert server.metric("tilestream_engine_restarts_total") >= 1
        rows = [json.loads(line) for line in report.read_text().splitlines()]
        streams = Counter(row["what"].strip("_") for row in rows)
        frames = sum(row["answered"] for row in rows)
        print(f"{dict(streams)} {frames} frames; descriptors, threads, bytes: {before}, then {after}")
        assert [row for row in rows if "error" in row] == []
        assert all(row["sent"] == row["answered"] for row in rows) and len(rows) > 100
        assert after[0] <= before[0] + 2 and after[1] <= before[1] + 4  # of thousands of streams
        assert after[2] < 1.25 * before[2] + (16 << 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "Traceback" not in log.read_text()
