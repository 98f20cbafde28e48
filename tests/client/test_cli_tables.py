"""The tables of ``tilestream-client``: on a terminal of 80 columns, in a pipe, as JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilestream_client.cli import app, tables
from tilestream_client.info import ServerInfo, SessionInfo
from tilestream_client.v1 import segmentation_pb2 as pb

NAMES = ["[/gate 3]", "[red]front", ":smile: \\[x]", "a\x1b[31m\nb", "\u202eevil", "Straße 北"]
SHOWN = ["[/gate 3]", "[red]front", ":smile: \\[x]", r"a\x1b[31m\nb", r"\u202eevil", "Straße 北"]


def session(camera: str, number: int = 0) -> SessionInfo:
    message = pb.Session(
        session_id=f"s-{number:012x}",
        camera_id=camera,
        model="swiftnet_resnet18",
        state=pb.SESSION_STATE_ACTIVE,
        start_time_us=1_000_000_000,
        frame_size=pb.Size(width=1280, height=720),
        fps=14.9,
        latency_p50_us=21_000,
        latency_p99_us=1_033_000,
        block_drop_rate=0.5,
        block_budget=0.25,
        frames_ok=123456,
        frames_dropped=789,
        frames_invalid=3,
    )
    return SessionInfo.from_proto(message, 1065.0)


def run_cli(*words: str):
    return CliRunner().invoke(app, list(words))


def test_names_are_text_and_whole_in_a_pipe(capsys):
    long = "the camera above the northern gate of the yard, which has quite a long name " * 3
    tables.show_sessions([session(name, index) for index, name in enumerate([*NAMES, long])])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(NAMES) + 1
    for index, (line, name) in enumerate(zip(lines[1:], [*SHOWN, long], strict=True)):
        assert line.startswith(f"s-{index:012x}  {name}") and "swiftnet_resnet18" in line
        expected = ["active", "1", "min", "05", "s", "1280x720", "14.9", "21", "1033", "50%", "25%"]
        assert line.split()[-14:] == [*expected, "123456", "789", "3"]


@pytest.mark.parametrize("camera", ["front", "the camera above the northern gate of the yard"])
def test_a_terminal_of_80_columns_gets_fewer_columns_and_whole_ids(camera):
    lines = on_a_terminal(80, camera)
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:2] == ["session", "camera"] and "fps" in lines[0] and "ok" in lines[0]
    assert lines[1].startswith("s-000000000000  ") and "123456" in lines[1] and "14.9" in lines[1]
    assert camera[:15] in lines[1]
    assert lines[2].startswith("no room for ") and lines[2].endswith("--json has them")


def test_a_wide_terminal_gets_all_columns():
    lines = on_a_terminal(160, "front")
    assert len(lines) == 2 and len(lines[0].split()) == len(tables._SESSION) + 2  # p50 ms, p99 ms


def on_a_terminal(columns: int, camera: str) -> list[str]:
    code = (
        "import sys; from test_cli_tables import session; from tilestream_client.cli import tables;"
        "tables.show_sessions([session(sys.argv[1])])"
    )
    ours, theirs = pty.openpty()
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": str(columns), "TERM": "xterm"}
    words = [sys.executable, "-c", code, camera]
    with subprocess.Popen(words, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 10_000):
                text += piece
        except OSError:
            pass  # so a terminal says that nobody writes any more
        assert process.wait(120) == 0, text
    os.close(ours)
    return re.sub(r"\x1b\[[\d;]*m", "", text.decode()).replace("\r", "").splitlines()


def test_every_listing_has_json(serve):
    server, found = serve(sessions=3), {}
    for command in ("models", "info", "sessions"):
        done = run_cli(command, "--json", "--server", server.target)
        assert done.exit_code == 0, done.output
        found[command] = json.loads(done.output)
    assert [model["name"] for model in found["models"]["models"]]
    assert found["info"]["default_model"] and "max_frame_bytes" in found["info"]["limits"]
    assert len(found["sessions"]["sessions"]) == 3


@pytest.mark.parametrize("hours", [-24, 0, 24])
def test_ages_do_not_depend_on_this_machine_s_clock(monkeypatch, capsys, hours):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600 * hours)
    info = ServerInfo.from_proto(
        pb.GetServerInfoResponse(start_time_us=round((now - 60) * 1e6), time_us=round(now * 1e6))
    )
    assert info.uptime == pytest.approx(60)
    tables.show_info(info)
    tables.show_sessions([session("front")])
    output = capsys.readouterr().out
    assert "1 min 00 s" in output and "1 min 05 s" in output


def test_a_server_that_does_not_tell_the_time_has_no_ages(capsys):
    info = ServerInfo.from_proto(pb.GetServerInfoResponse(start_time_us=1))
    assert info.uptime is None and SessionInfo.from_proto(pb.Session(start_time_us=1)).age is None
    tables.show_info(info)
    assert "unknown" in capsys.readouterr().out
