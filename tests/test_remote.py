"""`tilestream top` and `tilestream health` against a server on a socket."""

import asyncio
import io
import json
import sys

from rich.console import Console
from typer.testing import CliRunner

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.processes import environment
from support.server import running
from tilestream.cli import app
from tilestream.remote import screen
from tilestream.session_rows import session_row
from tilestream.v1 import segmentation_pb2 as pb


async def command(*words: str, columns: int = 80):
    return await asyncio.to_thread(CliRunner().invoke, app, words, env={"COLUMNS": str(columns)})


async def test_top_shows_the_sessions():
    engine = FakeEngine()
    engine.whole_interval = 10
    async with running(engine) as r:
        address = f"127.0.0.1:{r.server.port}"
        assert json.loads((await command("top", "--json", "--server", address)).output) == {"sessions": []}
        stream = await r.open(camera_id="[red]front")
        await stream.frame(0, jpeg())
        await stream.result()
        (row,) = json.loads((await command("top", "--json", "--server", address)).output)["sessions"]
        assert row["session"] == stream.started.session_id and row["camera"] == "[red]front"
        assert row["frames_ok"] == 1 and row["fps"] > 0 and row["latency_p50"] > 0
        assert row["agreement"] is None and row["block_budget"] == 1.0 and row["block_drop_rate"] == 0
        for frame_id in (2, 3):  # not whole frames
            await stream.frame(frame_id, jpeg())
            assert (await stream.result()).reuse.agreement == 0.75
        (row,) = json.loads((await command("top", "--json", "--server", address)).output)["sessions"]
        assert row["agreement"] == 0.75
        shown = (await command("top", "--once", "--server", address, columns=120)).output
        assert "75.0%" in shown
        assert stream.started.session_id in shown and "[red]front" in shown and "1 session," in shown


async def test_a_terminal_of_80_columns_shows_every_number():
    sessions = [
        pb.Session(
            session_id=f"s-{i:012x}",
            camera_id="a camera with a long name",
            model="swiftnet_resnet18",
            state=pb.SESSION_STATE_ACTIVE,
            fps=29.9,
            latency_p50_us=1_012_000,
            latency_p99_us=12_123_000,
            block_drop_rate=0.5,
            block_budget=1.0,
            agreement=0.987,
            frames_ok=123456,
            frames_dropped=23456,
            frames_invalid=7,
        )
        for i in range(3)
    ]
    lines = rendered(sessions)
    assert len(lines) == 1 + 2 + 3 and "swiftnet_resnet18" in lines[0]
    for i, line in enumerate(lines[3:]):
        expected = [f"s-{i:012x}", *["29.9", "1012", "12123", "50%", "100%", "98.7%", "123456", "23456", "7"]]
        assert [line.split()[0], *line.split()[-9:]] == expected
        assert "a cam" in line
    sessions[1].state = pb.SESSION_STATE_SUSPENDED  # worth a column, for which there is room
    for i, line in enumerate(rendered(sessions)[3:]):
        expected = ["suspended" if i == 1 else "active", "29.9", "1012", "12123", "50%", "100%", "98.7%"]
        assert line.split()[-10:] == [*expected, "123456", "23456", "7"]


async def test_what_is_not_known_is_not_shown_as_zero():
    new = pb.Session(session_id="s-1", model="a", state=pb.SESSION_STATE_ACTIVE, frames_dropped=2)
    lost = pb.Session(session_id="s-2", model="b", state=pb.SESSION_STATE_SUSPENDED)
    title, *_, first, second = rendered([new, lost])
    assert first.split() == ["s-1", "a", "active", "0.0", "-", "-", "-", "-", "0", "2", "0"]
    assert second.split()[:3] == ["s-2", "b", "suspended"]  # worth a column where they differ
    assert title == "host:1: 2 sessions, 0.0 frames/s"
    assert rendered([]) == ["host:1: 0 sessions, 0.0 frames/s"]


def rendered(sessions: list[pb.Session]) -> list[str]:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(screen("host:1", [session_row(session) for session in sessions]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    return lines


async def test_top_writes_tables_where_there_is_no_terminal_until_nobody_reads_them():
    async with running() as r:
        names = ["a camera above the northern gate of the yard", "[/gate 3]\x1b[2J\n\u202e"]
        streams = [await r.open(camera_id=name) for name in names]
        top = (sys.executable, "-m", "tilestream", "top", "--interval", "0.1")
        server = ("--server", f"127.0.0.1:{r.server.port}")
        process = await asyncio.create_subprocess_exec(
            *top, *server, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        lines = [(await process.stdout.readline()).decode() for _ in range(10)]
        assert lines[0] == lines[5] and lines[0].startswith("127.0.0.1:") and "2 sessions" in lines[0]
        for line, stream, name in zip(
            lines[3:5], streams, [names[0], r"[/gate 3]\x1b[2J\n\u202e"], strict=True
        ):
            assert line.startswith(f"{stream.started.session_id} {name}") and "fake" in line
        process._transport.get_pipe_transport(1).close()
        assert await process.wait() == 0
        assert await process.stderr.read() == b""


async def test_info_tells_version_models_and_gates():
    async with running() as r:
        address = f"127.0.0.1:{r.server.port}"
        told = (await command("info", "--server", address)).output.splitlines()
        assert "device: fake" in told and "state: serving" in told
        facts = json.loads((await command("info", "--json", "--server", address)).output)
        assert facts["up_seconds"] >= 0 and facts["max_sessions"] == 64
        assert [model["name"] for model in facts["models"]] == ["fake", "other"]


async def test_top_pages_through_many_sessions(monkeypatch):
    monkeypatch.setattr("tilestream.remote._PAGE", 2)
    async with running() as r:
        streams = [await r.open() for _ in range(5)]
        result = await command("top", "--json", "--server", f"127.0.0.1:{r.server.port}")
        rows = json.loads(result.output)["sessions"]
        assert [row["session"] for row in rows] == [s.started.session_id for s in streams]


async def test_health_is_the_exit_status():
    async with running() as r:
        address = f"127.0.0.1:{r.server.port}"
        healthy = await command("health", "--server", address)
        assert (healthy.exit_code, healthy.output) == (0, "SERVING\n")
        await r.server.stop(grace=5.0)
        gone = await command("health", "--server", address)
        assert gone.exit_code == 1 and "UNAVAILABLE" in gone.output and "Traceback" not in gone.output
        assert (await command("top", "--once", "--server", address)).exit_code == 1
