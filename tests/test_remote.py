"""`tilestream top` and `tilestream health` against a server on a socket."""

import asyncio
import json

from typer.testing import CliRunner

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import running
from tilestream.cli import app


async def command(*words: str):
    return await asyncio.to_thread(CliRunner().invoke, app, words, env={"COLUMNS": "200"})


async def test_top_shows_the_sessions():
    engine = FakeEngine()
    engine.key_interval = 10
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
        for frame_id in (2, 3):  # not key frames
            await stream.frame(frame_id, jpeg())
            assert (await stream.result()).reuse.agreement == 0.75
        (row,) = json.loads((await command("top", "--json", "--server", address)).output)["sessions"]
        assert row["agreement"] == 0.75
        shown = (await command("top", "--once", "--server", address)).output
        assert "75.0%" in shown
        assert stream.started.session_id in shown and "[red]front" in shown and "1 sessions" in shown


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
