"""Asking Prometheus, and running one for a measurement."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 240.0  # seconds for what takes a few
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine


def ask(url: str, expression: str, at: float | None = None) -> float:
    """The value of an expression by the API at ``url``; 0 where there is none. ``at``: Unix seconds."""
    query = urllib.parse.urlencode({"query": expression, **({"time": at} if at else {})})
    with _DIRECT.open(f"{url}/api/v1/query?{query}", timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def wait_for(condition: Callable[[], bool], what: str, pause: float = 0.5) -> None:
    """Look until it is true; AssertionError after minutes."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(pause)


def wait_for_scrape(url: str) -> None:
    """Until Prometheus has asked all its targets once more."""
    now = time.time()
    wait_for(lambda: ask(url, "min(timestamp(up))") > now, "the server is scraped")


@contextlib.contextmanager
def prometheus(target: str, rules: Path, interval: float) -> Iterator[str]:
    """A Prometheus that scrapes ``target`` (HOST:PORT) every ``interval`` seconds; yields its URL."""
    program = shutil.which("prometheus")
    if program is None:
        raise SystemExit("prometheus is not installed (Debian package prometheus)")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    job = {"job_name": "tilestream", "static_configs": [{"targets": [target]}]}
    every = {"scrape_interval": f"{interval:g}s", "evaluation_interval": f"{interval:g}s"}
    config = {"global": every, "rule_files": [str(rules)], "scrape_configs": [job]}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        flags = [f"--config.file={folder}/config.yml", f"--storage.tsdb.path={folder}/data"]
        flags += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        process = subprocess.Popen([program, *flags])
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: _is_up(url), "Prometheus has scraped its target")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _is_up(url: str) -> bool:
    with contextlib.suppress(OSError):
        return ask(url, "sum(up)") > 0
    return False
