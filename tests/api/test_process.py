"""The server as a process: its exit status, its signals, its port file."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import Running, running
from support.waiting import until
from tilestream.config import Settings
from tilestream.messages import EngineError
from tilestream.server import run_server
from tilestream.v1 import segmentation_pb2 as pb


@contextlib.asynccontextmanager
async def process(tmp_path: Path, *flags: str):
    """A server process; yields it, its port and a client's end."""
    port_file = tmp_path / "port"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "support.fake_server", "--port", "0", "--port-file", str(port_file)]
    with (tmp_path / "log").open("w") as log:
        child = await asyncio.create_subprocess_exec(
            *command, "--log-format", "json", *flags, env=environment, stderr=log
        )
    try:
        while not port_file.exists():
            assert child.returncode is None, (tmp_path / "log").read_text()
            await asyncio.sleep(0.02)
        port = int(port_file.read_text())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield child, port, Running(None, None, channel)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def log_of(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_with_0(tmp_path, number):
    async with process(tmp_path) as (child, port, client):
        stream = await client.open(frames_in_flight=8)
        for i in range(20):
            await stream.frame(i, jpeg(i % 12))
        await stream.result()
        child.send_signal(number)
        responses = await stream.rest()
        ids = [x.result.frame_id for x in responses if x.HasField("result")]
        assert ids == list(range(1, 1 + len(ids)))
        if len(ids) < 19:  # else all was answered before the signal arrived
            assert any(x.HasField("draining") for x in responses)
        assert (await stream.status())[0] is grpc.StatusCode.UNAVAILABLE
        assert await child.wait() == 0
    log = log_of(tmp_path)
    assert [x["address"] for x in log if x["message"] == "serving"] == [f"127.0.0.1:{port}"]
    assert log[-1]["message"] == "stopped"
    assert not [x for x in log if x["level"] == "error"]
    closed = [x["cause"] for x in log if x["message"] == "session closed"]
    assert closed == ["shutdown"]


async def test_the_log_names_sessions_and_shows_nothing_of_frames(tmp_path):
    secret = b"number plate WX 4711"
    comment = b"\xff\xfe" + (len(secret) + 2).to_bytes(2, "big") + secret
    good = jpeg()[:2] + comment + jpeg()[2:]
    bad = (secret, good[:-40], good[:2] + comment + b"\xff\xd9", secret * 1000)
    async with process(tmp_path, "--log-level", "debug", "--log-limit", "3") as (child, _, client):
        ids = []
        for _ in range(5):
            stream = await client.open(camera_id="front")
            ids.append(stream.started.session_id)
            for i, data in enumerate((good, *bad)):
                await stream.frame(i, data)
                expected = pb.FRAME_STATUS_INVALID if i else pb.FRAME_STATUS_OK
                assert (await stream.result()).status == expected
            await stream.done()
            await stream.rest()
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
    text = (tmp_path / "log").read_text()
    for form in (secret.decode(), base64.b64encode(secret)[:-4].decode(), secret.hex()):
        assert form not in text
    opened = [line["session"] for line in log_of(tmp_path) if line["message"] == "session opened"]
    assert opened == ids[:3]  # the limit of one kind of line
    closed = [line for line in log_of(tmp_path) if line["message"] == "session closed"]
    assert [line["session"] for line in closed] == ids[:3]
    assert all(line["level"] and line["time"] and line["logger"] for line in log_of(tmp_path))


def test_a_port_that_is_taken(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status = run_server(Settings(port=port), FakeEngine)
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capfd.readouterr().err


def test_an_engine_that_cannot_be_made(capfd):
    def make():
        raise EngineError("no such device")

    assert run_server(Settings(port=0), make) == 1
    assert "cannot start: no such device" in capfd.readouterr().err


async def test_a_client_that_is_killed_frees_its_session(tmp_path):
    """A process that vanishes without a word."""
    code = (
        "import asyncio, grpc, os, sys\n"
        "from support.server import Running\n"
        "from support.frames import jpeg\n"
        "async def main():\n"
        "    stream = await Running(None, None, grpc.aio.insecure_channel(sys.argv[1])).open()\n"
        "    await stream.frame(1, jpeg())\n"
        "    print('open', flush=True)\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    async with running(resume_ttl=0.1) as r:
        address = f"127.0.0.1:{r.server.port}"
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, address, stdout=subprocess.PIPE, env=environment
        )
        assert await client.stdout.readline() == b"open\n"
        other = await r.open()
        client.kill()
        await client.wait()
        await until(lambda: len(r.server.registry) == len(r.engine.open_sessions) == 1)
        await other.frame(1, jpeg())
        assert (await other.result()).status == pb.FRAME_STATUS_OK
