"""What a server's metrics tell of its engine's steps between two moments."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT = 5.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def step_sums(port: int) -> dict[str, float]:
    """Since the server started: steps, their frames, seconds, seconds by stage. Empty without an answer."""
    try:
        with _NO_PROXY.open(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT) as reply:
            text = reply.read().decode()
    except OSError:
        return {}
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (
                "tilestream_step_sessions_sum",
                "tilestream_step_seconds_sum",
                "tilestream_step_seconds_count",
            ):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            elif sample.name == "tilestream_step_stage_seconds_sum":
                sums[sample.labels["stage"]] = sums.get(sample.labels["stage"], 0.0) + sample.value
    return sums


def steps_between(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    """Of the steps between two readings: how many, frames and milliseconds of each, by stage too."""
    passed = {name: value - before.get(name, 0.0) for name, value in after.items()}
    steps = passed.pop("tilestream_step_seconds_count", 0.0)
    if not steps:
        return {"steps": 0}
    frames, seconds = passed.pop("tilestream_step_sessions_sum"), passed.pop("tilestream_step_seconds_sum")
    stages = {name: round(1e3 * value / steps, 2) for name, value in passed.items()}
    return {
        "steps": int(steps),
        "step_frames": round(frames / steps, 1),
        "step_ms": round(1e3 * seconds / steps, 2),
        "step_stages_ms": stages,
    }
