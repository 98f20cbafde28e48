"""`tilestream health`, `top` and `serve` with TLS, as they are called."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from support.certificates import EXPIRED, Authority, Issued
from support.processes import environment
from support.server import running
from tilestream.cli import app
from tilestream.tls.client import Tls
from tilestream.tls.credentials import grpc_credentials
from tilestream.tls.files import CertificateFiles
from tilestream.tls.store import CertificateStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("server")


async def command(*words: object, **variables: object):
    given, environment = [str(word) for word in words], {name: str(v) for name, v in variables.items()}
    return await asyncio.to_thread(CliRunner().invoke, app, given, env={"COLUMNS": "80", **environment})


async def test_commands_connect_by_tls(authority: Authority, issued: Issued):
    operator = authority.issue("operator", "CN=operator")
    trust = ("--ca", authority.certificate)
    own = ("--certificate", operator.certificate, "--key", operator.key)
    flags = {**issued.flags, "tls_client_ca": authority.certificate}
    async with running(connect=authority.connect(operator), **flags) as r:
        server = ("--server", f"127.0.0.1:{r.server.port}")
        assert (await command("health", *server, *trust, *own)).output == "SERVING\n"
        assert json.loads((await command("top", "--json", *server, *trust, *own)).output) == {"sessions": []}
        named = await command("health", *server, *trust, *own, "--server-name", "localhost")
        assert named.exit_code == 0
        variables = {
            "TILESTREAM_CA": authority.certificate,
            "TILESTREAM_CERTIFICATE": operator.certificate,
            "TILESTREAM_KEY": operator.key,
        }
        assert (await command("health", *server, **variables)).exit_code == 0


async def test_commands_say_why_they_do_not_connect(authority: Authority, issued: Issued, tmp_path: Path):
    flags = {**issued.flags, "tls_client_ca": authority.certificate}
    operator = authority.issue("operator", "CN=operator")
    async with running(connect=authority.connect(operator), **flags) as r:
        address = f"127.0.0.1:{r.server.port}"
        for name in ("health", "top"):
            for words, why in (
                ((), "it speaks TLS and this client does not: use TLS"),
                (("--tls",), "give the authority's certificate by the option ca"),
                (("--ca", authority.certificate), "it lets in only clients that show a certificate"),
                (("--ca", authority.certificate, "--server-name", "x.example"), "not for x.example"),
            ):
                told = await command(name, "--server", address, *words, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH="")
                assert told.exit_code == 1
                assert told.stderr.splitlines()[-1].startswith(f"tilestream {name}: {address}: ")
                assert why in told.stderr, words
    async with running() as r:
        address = f"127.0.0.1:{r.server.port}"
        told = await command("health", "--server", address, "--ca", authority.certificate)
        assert told.exit_code == 1 and "it does not speak TLS and this client does" in told.stderr


async def test_files_that_cannot_be_used_are_wrong_usage(authority: Authority, tmp_path: Path):
    told = await command("health", "--ca", tmp_path / "absent")
    assert told.exit_code == 2
    assert told.stderr.startswith(f"tilestream health: ca: cannot read {tmp_path / 'absent'}: No such file")
    old = authority.issue("old", "CN=operator", days=EXPIRED)
    told = await command("top", "--certificate", old.certificate, "--key", old.key)
    assert told.exit_code == 2
    assert f"tilestream top: certificate: {old.certificate} has expired" in told.stderr


def test_a_server_that_cannot_start_says_why_and_ends(authority: Authority, issued: Issued):
    other = authority.issue("other")
    words = ("--port", "0", "--tls-certificate", issued.certificate, "--tls-key", other.key)
    ended = subprocess.run(
        [sys.executable, "-m", "support.fake_server", *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 1
    assert f"cannot start: {other.key} is not the key of the first certificate" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_commands_of_the_page_make_files_that_go_together(tmp_path: Path):
    """Those of docs/tls.md."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    (script,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/tls.md").read_text(), re.DOTALL)
    told = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=240
    )
    assert told.stdout.splitlines()[-1] == "subject=CN=camera,O=Fleet"
    files = CertificateFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    store = CertificateStore(files)
    running = grpc.server(ThreadPoolExecutor(1))
    port = running.add_secure_port("127.0.0.1:0", grpc_credentials(store))
    running.start()
    tls = Tls(tmp_path / "ca.pem", tmp_path / "camera.pem", tmp_path / "camera.key")
    with grpc.secure_channel(f"127.0.0.1:{port}", tls.credentials()) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
    running.stop(0)
