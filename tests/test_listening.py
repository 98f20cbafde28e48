"""Where a server listens: sockets of the file system, and addresses as people write them."""

import asyncio
import socket
import stat
import subprocess
import sys

import pytest

from support.frames import jpeg
from support.processes import environment, free_port
from support.server import running
from tilestream.listening import socket_path
from tilestream.server import StartError
from tilestream_client import Client


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A socket's name, short enough; relative ones are in the same folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "s"


async def segments(target: str, count: int = 2) -> list[str]:
    """What a client's frames get there."""

    def stream():
        with Client(target) as client:
            return [str(result.status) for result in client.stream([jpeg()] * count)]

    return await asyncio.to_thread(stream)


async def command(*words: str) -> subprocess.CompletedProcess:
    words = (sys.executable, "-m", *words)
    return await asyncio.to_thread(
        subprocess.run, words, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}", "unix:s"])
async def test_a_socket_of_the_file_system(path, form, caplog):
    caplog.set_level("INFO")
    async with running(host=form.format(path), port_file=path.with_name("port")) as r:
        assert stat.S_ISSOCK(path.stat().st_mode) and r.server.port == 0
        assert path.with_name("port").read_text() == "0\n"
        assert sorted(found.name for found in path.parent.iterdir()) == ["port", "s"]
        (line,) = [record for record in caplog.records if record.message == "serving"]
        assert line.address == f"unix:{path}"
        assert await segments(f"unix:{path}") == ["ok", "ok"]
        health = await command("tilestream", "health", "--server", f"unix:{path}")
        assert (health.returncode, health.stdout) == (0, "SERVING\n")
        listed = await command("tilestream_client", "sessions", "--json", "--server", f"unix:{path}")
        assert listed.stdout == '{"sessions": []}\n'
    assert not path.exists()


async def test_a_live_server_s_socket_is_refused_and_left_alone(path):
    async with running(host=f"unix:{path}"):
        before = path.stat().st_ino
        with pytest.raises(StartError, match="another server listens there"):
            async with running(host=f"unix:{path}"):
                pass
        assert path.stat().st_ino == before
        assert await segments(f"unix:{path}") == ["ok", "ok"]


async def test_a_stale_socket_is_replaced(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with running(host=f"unix:{path}"):
        assert await segments(f"unix:{path}") == ["ok", "ok"]
    assert not path.exists()


async def test_what_is_another_s_meanwhile_is_not_removed(path):
    async with running(host=f"unix:{path}"):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_what_is_no_socket_is_left_alone(path, kind):
    path.write_text("precious") if kind == "file" else path.mkdir()
    with pytest.raises(StartError, match="no socket"):
        async with running(host=f"unix:{path}"):
            pass
    assert path.is_dir() or path.read_text() == "precious"


async def test_folders_that_cannot_be_had_are_named(tmp_path):
    with pytest.raises(StartError, match=f"there is no folder {tmp_path}/none"):
        async with running(host=f"unix:{tmp_path}/none/s"):
            pass


def test_paths_that_are_too_long_for_a_socket_are_refused(tmp_path):
    with pytest.raises(ValueError, match="may have 107 bytes"):
        socket_path(f"unix:/{'a' * 200}")


async def test_of_two_servers_that_find_the_same_stale_socket_one_gets_it(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    serve = (sys.executable, "-c", _SERVER, f"unix:{path}")
    servers = [
        subprocess.Popen(serve, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        said = [await asyncio.to_thread(server.stdout.readline) for server in servers]
        assert sorted(line.split()[0] for line in said) == ["listening", "refused", "refused", "refused"], (
            said
        )
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    finally:
        for server in servers:
            server.communicate()  # the end of its input ends it
    assert not path.exists()


_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from tilestream.listening import ListenError, listen
server = grpc.server(ThreadPoolExecutor(1))
try:
    listener = listen(server.add_insecure_port, sys.argv[1], 0)
    server.start()
    print("listening", flush=True)
    sys.stdin.read()
    listener.close()
    server.stop(0).wait()
except ListenError as error:
    print("refused", error, flush=True)
    sys.stdin.read()
"""


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback: --host ::1 IS NOT CHECKED")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_ipv6_with_and_without_brackets(host, caplog):
    caplog.set_level("INFO")
    metrics = free_port()
    async with running(host=host, metrics_host=host, metrics_port=metrics) as r:
        assert await segments(f"[::1]:{r.server.port}") == ["ok", "ok"]
        (line,) = [record for record in caplog.records if record.message == "serving"]
        assert line.address == f"[::1]:{r.server.port}"
        with socket.create_connection(("::1", metrics)):
            pass


async def test_an_address_in_use_is_said_to_be():
    async with running() as r:
        with pytest.raises(StartError, match=f"127.0.0.1:{r.server.port}: Address already in use"):
            async with running(port=r.server.port):
                pass
