"""What `make demo` does, on a clip of a few frames."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import environment
from tilestream_street import write_clip
from tools.server_process import START_SECONDS

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


def run_demo(*words):
    return subprocess.run(
        [sys.executable, "-m", "tools.demo", *words], cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=START_SECONDS * 2, env=environment(),
    )  # fmt: skip


def test_demo_leaves_pictures_and_numbers(tmp_path):
    clip = tmp_path / "clip.mp4"
    write_clip(clip, seed=3, frames=5, width=320, height=192, fps=10.0)
    out = tmp_path / "out"
    result = run_demo("--video", str(clip), "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames_sent"] == summary["frames_ok"] == 5
    assert summary["model"] == "swiftnet_resnet18" and summary["device"]
    assert summary["fps"] > 0 and 0 <= summary["block_drop_rate"] <= 1
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    for name in ("overlay.mp4", "contact_sheet.png"):
        assert (out / name).stat().st_size > 1000
    assert "5 of 5 frames" in result.stdout
    assert re.search(r"look at http://127\.0\.0\.1:\d+/", result.stdout)
    assert (out / "page.png").exists() or "no picture of the page" in result.stdout
    assert "stopped" in (out / "server.log").read_text()


def test_demo_names_a_video_that_is_not_there(tmp_path):
    result = run_demo("--video", str(tmp_path / "nosuch.mp4"), "--out", str(tmp_path / "out"))
    assert result.returncode == 1
    assert "nosuch.mp4" in result.stderr and "Traceback" not in result.stderr
