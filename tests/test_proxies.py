"""A proxy in the environment: not for what is on this machine, and named where it is in the way."""

import socket
import subprocess
import sys
import threading

import grpc
import pytest

from support.processes import environment, free_port
from support.server import running
from tilestream.proxies import VARIABLES, is_local, proxy_variable
from tilestream_client import AsyncClient, Client, ConnectionFailed

ELSEWHERE = "camera-server.example:50051"


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that refuses everything; yields its URL and the hosts that it was asked for."""
    asked: list[str] = []
    for name in (*VARIABLES, "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(1000).split()[1].decode())
                    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:50051", True),
        ("LOCALHOST.:50051", True),
        ("127.0.0.1:50051", True),
        ("127.1.2.3:1", True),
        ("0.0.0.0:1", True),
        ("[::1]:50051", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("dns:///localhost:50051", True),
        ("dns://8.8.8.8/localhost:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("ipv6:[::1]:50051", True),
        ("unix:/run/tilestream.sock", True),
        ("unix:///run/tilestream.sock", True),
        (ELSEWHERE, False),
        ("localhost.example:1", False),
        ("10.0.0.1:50051", False),
        ("[2001:db8::1]:50051", False),
        ("dns:///camera-server.example", False),
    ],
)
def test_what_is_on_this_machine(target, local):
    assert is_local(target) is local


@pytest.mark.parametrize(
    ("exempt", "through"),
    [
        ("", True),
        ("other.example", True),
        ("other.example, camera-server.example", False),
        (".example", False),
        ("10.0.0.0/8", True),
    ],
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_the_variable_is_the_one_that_grpc_uses(proxy, monkeypatch, variable, exempt, through):
    url, asked = proxy
    monkeypatch.setenv(variable, url)
    monkeypatch.setenv("no_proxy", exempt)
    assert proxy_variable(ELSEWHERE) == (variable if through else "")
    with grpc.insecure_channel(ELSEWHERE) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/a/b")(b"", timeout=20)
    assert (ELSEWHERE in asked) is through


def command(*words: str, **variables: str) -> subprocess.CompletedProcess:
    everything = {**environment(), **variables}
    words = (sys.executable, "-m", *words)
    return subprocess.run(words, env=everything, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.parametrize("variable", VARIABLES)
async def test_no_command_asks_a_proxy_for_this_machine(proxy, monkeypatch, variable):
    import asyncio

    url, asked = proxy
    async with running() as r:
        for host in ("127.0.0.1", "localhost"):
            server = ("--server", f"{host}:{r.server.port}")
            for words in (
                ("tilestream", "health"),
                ("tilestream", "top", "--once"),
                ("tilestream_client", "info"),
            ):
                done = await asyncio.to_thread(command, *words, *server, **{variable: url})
                assert done.returncode == 0, done.stderr
        monkeypatch.setenv(variable, url)
        async with AsyncClient(f"127.0.0.1:{r.server.port}") as client:
            assert (await client.info()).default_model
        with Client(f"127.0.0.1:{r.server.port}") as client:
            assert (await asyncio.to_thread(client.info)).default_model
    assert asked == []


def test_health_never_goes_through_one(proxy):
    url, asked = proxy
    done = command("tilestream", "health", "--server", ELSEWHERE, http_proxy=url)
    assert done.returncode == 1 and asked == []


def test_errors_name_the_variable_and_not_its_secret(proxy, monkeypatch):
    url, asked = proxy
    secret = url.replace("http://", "http://user:secret@")
    done = command("tilestream", "top", "--once", "--server", ELSEWHERE, https_proxy=secret)
    assert done.returncode == 1 and "the environment's https_proxy" in done.stderr
    assert "secret" not in done.stderr and asked == [ELSEWHERE]
    monkeypatch.setenv("http_proxy", url)
    with Client(ELSEWHERE) as client, pytest.raises(ConnectionFailed, match="the environment's http_proxy"):
        client.info()
    with Client(f"127.0.0.1:{free_port()}") as client, pytest.raises(ConnectionFailed) as caught:
        client.info()
    assert "proxy" not in str(caught.value)
