"""``tilestream-client stream`` and the tables, against the scripted server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import grpc
import numpy as np
import pytest
from fake_answers import MODEL, Status, encode_mask, labels_for
from PIL import Image
from typer.testing import CliRunner

import tilestream_client
from tilestream_client import jpeg, masks
from tilestream_client.cli import app

KEYS = {
    "frames_sent",
    "frames_ok",
    "frames_dropped",
    "frames_invalid",
    "frames_unanswered",
    "fps",
    "latency_ms",
    "block_drop_rate",
    "agreement",
    "key_frames",
    "reconnects",
    "model",
    "device",
    "server_version",
    "width",
    "height",
}
CODE = grpc.StatusCode


@pytest.fixture
def folder(tmp_path) -> Path:
    """Nine JPEGs of 48x32 named img_1 .. img_9, and img_1 once more as PNG."""
    path = tmp_path / "frames"
    path.mkdir()
    for index in range(1, 10):
        (path / f"img_{index}.jpg").write_bytes(jpeg.encode(np.full((32, 48, 3), 20 * index, np.uint8)))
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(path / "img_1.png")
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def video_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_all_outputs_of_a_folder(serve, folder, tmp_path):
    server = serve(fate=lambda frame_id: {3: "dropped", 4: "invalid"}.get(frame_id, "ok"))
    out, sheet, summary = tmp_path / "o" / "overlay.mp4", tmp_path / "sheet.png", tmp_path / "s" / "s.json"
    result = run(
        *("stream", folder, "--server", server.target, "--out", out, "--json", summary),
        *("--masks", tmp_path / "masks", "--contact-sheet", sheet, "--fps", 20),
    )
    assert result.exit_code == 0, result.output
    assert "8 of 10 frames segmented, 1 dropped, 1 invalid" in result.output
    report = json.loads(summary.read_text())
    assert set(report) == KEYS and set(report["latency_ms"]) == {"p50", "p90", "p99"}
    counts = [report[f"frames_{name}"] for name in ("sent", "ok", "dropped", "invalid", "unanswered")]
    assert counts == [10, 8, 1, 1, 0] and report["fps"] > 0
    assert (report["model"], report["device"], report["server_version"]) == ("fake", "cpu", "9.9.9")
    assert (report["width"], report["height"], report["key_frames"]) == (48, 32, 1)
    assert report["block_drop_rate"] == pytest.approx(7 * 60 / 800)
    assert report["agreement"] == pytest.approx(0.9)
    written = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert written == ["img_1.png", "img_1.png.png", "img_2.png", *(f"img_{i}.png" for i in range(5, 10))]
    expected = encode_mask(labels_for(9, 48, 32), 1).data
    assert (tmp_path / "masks" / "img_9.png").read_bytes() == expected  # the server's bytes
    frames = video_frames(out)
    assert len(frames) == 10 and frames[0].shape[1] == 48 and frames[0].shape[0] > 32
    with av.open(str(out)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(20)
    with Image.open(sheet) as picture:
        assert picture.size[0] == 1200


def test_numbered_masks_and_limit_of_a_video(serve, tmp_path):
    video = tmp_path / "drive.avi"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    server, folder = serve(), tmp_path / "masks"
    result = run(
        *("stream", video, "--server", server.target, "--masks", folder, "--limit", 4),
        *("--encoding", "rle", "--size", "32x24", "--out", tmp_path / "o.mp4", "--realtime", "--fps", 100),
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == [f"{index:06d}.png" for index in range(4)]
    labels = masks.decode_png((folder / "000003.png").read_bytes(), 32, 24)
    np.testing.assert_array_equal(labels, labels_for(3, 32, 24))
    assert len(video_frames(tmp_path / "o.mp4")) == 4 and len(server.records[0].frames) == 4
    assert server.records[0].frames[0].capture_time_us > 0  # --realtime stamps them


def test_the_bins_are_asked_for_and_shown(serve, folder, tmp_path):
    fates = {3: "dropped", 4: "invalid"}
    server = serve(fate=lambda frame_id: fates.get(frame_id, "ok"))
    plain, out, sheet = (tmp_path / name for name in ("plain.mp4", "bins.mp4", "bins.png"))
    for arguments in (("--out", plain), ("--out", out, "--contact-sheet", sheet, "--show-bins")):
        result = run("stream", folder, "--server", server.target, *arguments)
        assert result.exit_code == 0, result.output
    assert [record.config.include_bins for record in server.records] == [False, True]
    before, after = video_frames(plain), video_frames(out)
    assert len(before) == len(after) == 10
    assert after[0].shape[0] == before[0].shape[0] + 20  # the line about the bins

    def change(index: int) -> float:
        return np.abs(after[index][:32].astype(int) - before[index][:32]).mean()

    assert change(5) > 10 and max(change(index) for index in fates) < 5  # without a mask: the bare image
    with Image.open(sheet) as picture:
        assert picture.size[0] == 1200


def test_bins_that_the_server_does_not_send_are_no_failure(serve, folder, tmp_path, monkeypatch):
    server, out = serve(), tmp_path / "o.mp4"
    monkeypatch.setattr(server, "_extras", lambda *arguments: None)
    result = run("stream", folder, "--server", server.target, "--out", out, "--show-bins")
    assert result.exit_code == 0 and len(video_frames(out)) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "640"), "WIDTHxHEIGHT"),
        (("--size", "0x480"), "WIDTHxHEIGHT"),
        (("--policy", "never"), "policy"),
        (("--budget", "1.5"), "budget"),
        (("--nonsense",), "nonsense"),
        (("--show-bins", "--masks", "m"), "--contact-sheet"),
    ],
)
def test_usage_errors(folder, arguments, message):
    result = run("stream", folder, *arguments)
    assert result.exit_code == 2 and message in result.output


def test_failures_are_one_line_and_the_summary_is_written(serve, folder, tmp_path):
    summary = tmp_path / "s.json"
    cases = [
        (serve(refuse=Status(CODE.UNAVAILABLE, retry_after=3)).target, "try again in 3 s"),
        (serve(abort_after=(3, Status(CODE.INTERNAL, "engine died"))).target, "engine died"),
        ("127.0.0.1:1", "cannot reach 127.0.0.1:1"),
    ]
    for target, message in cases:
        result = run("stream", folder, "--server", target, "--json", summary, "--reconnect-timeout", "0")
        assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output
        report = json.loads(summary.read_text())
        assert set(report) == KEYS
        answered = report["frames_ok"] + report["frames_dropped"] + report["frames_invalid"]
        assert report["frames_sent"] == answered + report["frames_unanswered"]
        summary.unlink()


def test_a_source_that_is_not_there():
    result = run("stream", "missing.mp4")
    assert result.exit_code == 1 and "cannot open missing.mp4" in result.output


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command as a process of its own, for signals."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tilestream_client.__file__).parents[1])}
    command = [sys.executable, "-m", "tilestream_client", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_finishes_what_is_under_way(serve, folder, tmp_path):
    server, summary, out = serve(delay=0.02), tmp_path / "s.json", tmp_path / "o.mp4"
    for copy in range(100, 1000):
        (folder / f"img_{copy}.jpg").hardlink_to(folder / "img_1.jpg")
    process = start("stream", folder, "--server", server.target, "--json", summary, "--out", out)
    wait_for(lambda: server.records and server.records[0].answers > 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors and "stopping" in errors
    report = json.loads(summary.read_text())
    assert report["frames_unanswered"] == 0 and 2 < report["frames_sent"] == report["frames_ok"] < 900
    assert len(video_frames(out)) == report["frames_ok"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_ctrl_c_does_not_wait(serve, folder, tmp_path):
    server, summary = serve(gate=threading.Event()), tmp_path / "s.json"  # it never answers
    process = start("stream", folder, "--server", server.target, "--json", summary)
    wait_for(lambda: server.records and len(server.records[0].frames) == 2)
    process.send_signal(signal.SIGINT)
    assert "stopping" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in errors and "2 frames unanswered" in errors
    report = json.loads(summary.read_text())
    assert (report["frames_sent"], report["frames_ok"], report["frames_unanswered"]) == (2, 0, 2)


def test_tables(serve):
    server = serve(sessions=4)
    environment = {"COLUMNS": "160"}
    for command, words in (
        ("models", [MODEL.name, "(default)", "road", "1.0 M"]),
        ("info", ["9.9.9", "cpu, fp32", "encoding 77"]),
        ("sessions", ["s0", "s3", "c2"]),
    ):
        result = CliRunner().invoke(app, [command, "--server", server.target], env=environment)
        assert result.exit_code == 0
        for word in words:
            assert word in result.output
    result = run("models", "--server", "127.0.0.1:1")
    assert result.exit_code == 1 and "cannot reach" in result.output


def test_the_version():
    assert run("--version").output.strip() == tilestream_client.__version__
