"""The bench of the server: rows that add up, and none of its processes left behind."""

import json
import os
import signal

import pytest

from bench import gpu_server
from bench.clips import drawn_clip
from bench.generators import Generators, Load, facts_of
from bench.gpu_server import Server, line, servers_of
from tilestream_client.load import LoadReport

LOAD = Load(cameras=3, fps=5.0, warmup=0.2, seconds=0.6, frames_in_flight=4)


@pytest.fixture
def generators():
    made = Generators(drawn_clip((64, 48), frames=4), 2)
    yield made
    made.close()


def test_generators_tell_of_a_server_that_is_not_there(generators):
    generators.start("127.0.0.1:1", LOAD)
    report, _ = generators.collect()
    facts = facts_of(report, LOAD)
    assert facts["sessions_failed"] == 3 and facts["ok"] == 0 and facts["fps"] == 0.0
    assert report.due == report.skipped + report.tally.sent


def test_a_generator_that_died_is_replaced(generators):
    generators.start("127.0.0.1:1", LOAD)
    os.kill(generators._all[0]._process.pid, signal.SIGKILL)
    report, _ = generators.collect()
    assert "a load generator died" in report.errors
    generators.start("127.0.0.1:1", LOAD)
    report, _ = generators.collect()
    assert "a load generator died" not in report.errors and report.sessions == 3


def test_flags(tmp_path):
    parse = gpu_server.parser().parse_args
    both = servers_of(parse(["--gate", "every_k", "--budget", "0.25", "--", "--engines", "1"]), tmp_path, 8)
    assert [server.kind for server in both] == ["adaptive", "pinned"]
    for server in both:
        assert "every_k" in server.flags and "--engines" in server.flags and "16" in server.flags
    assert both[0].flags[-2:] == ["--block-budget", "0.25"]
    assert both[1].flags[-4:] == ["--block-budget", "1", "--min-block-budget", "1"]
    assert [server.kind for server in servers_of(parse(["--pinned"]), tmp_path, 8)] == ["pinned"]


def test_a_server_that_does_not_start_is_a_row(tmp_path, generators):
    server = Server("pinned", ["--no-such-flag"], tmp_path / "pinned", 60.0)
    for expected in ("did not start", "did not start", "started too often"):
        row = gpu_server.measure(server, generators, LOAD)
        assert expected in row["error"] and row["log"] and line(row)
    assert not server.alive


def test_rates_are_of_the_time_in_which_frames_were_due():
    report = LoadReport(1, seconds=0.5, due=6)  # the last frame was answered before the next would be due
    report.tally.ok = 3
    facts = facts_of(report, LOAD)
    assert (facts["fps"], facts["due_fps"]) == (5.0, 10.0)


@pytest.mark.e2e
def test_rows_of_a_real_server(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest's own handling stays
    path = tmp_path / "server.json"
    words = ["--device", "cpu", "--precision", "fp32", "--cameras", "1,2", "--fps", "4", "--seconds", "1"]
    words += ["--warmup", "0.5", "--size", "64x48", "--generators", "2", "--adaptive", "--json", str(path)]
    rows = gpu_server.main([*words, "--", "--threads", "1"])
    record = json.loads(path.read_text())
    assert record["rows"] == rows and record["servers"]["adaptive"]["device"] == "cpu"
    assert [row["cameras"] for row in rows] == [1, 2]
    for row in rows:
        assert row["due"] == sum(row[fate] for fate in ("ok", "dropped", "skipped", "invalid", "unanswered"))
        assert row["due"] > 0 <= row["server_cpu_s"] and not row["sessions_failed"] and line(row)
