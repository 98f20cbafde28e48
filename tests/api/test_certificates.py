"""Callers are known by the certificate of their connection."""

from pathlib import Path

import grpc
import pytest

from support.certificates import Authority, Issued
from tilestream.api.certificates import certificate_subject

METHOD = "/tests.Subject/Ask"


class Subject(grpc.GenericRpcHandler):
    """Answers with the subject of the caller's certificate."""

    def service(self, details):
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return repr(certificate_subject(context)).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


async def ask(authority: Authority, server: Issued, client: Issued | None, *, require: bool) -> str:
    """What a server of these credentials takes this client for."""
    running = grpc.aio.server(handlers=[Subject()])
    port = running.add_secure_port("127.0.0.1:0", authority.serve(server, mutual=require))
    await running.start()
    try:
        async with authority.connect(client)(f"localhost:{port}") as channel:
            answer: bytes = await channel.unary_unary(METHOD)(b"")
    finally:
        await running.stop(0)
    return answer.decode()


@pytest.mark.parametrize(
    ("subject", "names", "expected"),
    [
        ("CN=camera-7,O=Fleet", (), "CN=camera-7,O=Fleet"),
        ("CN=camera-7,O=Fleet", ("spiffe://fleet/camera-7",), "CN=camera-7,O=Fleet"),
        ("CN=a\\,O=b", (), "CN=a\\\\,O=b"),  # one name with a comma in it is not two
        ("CN=Größe", (), "CN=Gr\\\\C3\\\\B6\\\\C3\\\\9Fe"),
        ("", ("spiffe://fleet/camera-7", "camera.example"), "URI=spiffe://fleet/camera-7"),
        ("", ("camera.example",), "DNS=camera.example"),
        ("", ("192.0.2.7",), "IP=192.0.2.7"),
    ],
)
async def test_who_shows_a_certificate_is_its_subject(tmp_path: Path, subject, names, expected):
    authority = Authority(tmp_path)
    client = authority.issue("client", subject, names=names)
    assert await ask(authority, authority.issue("server"), client, require=True) == f"'{expected}'"


@pytest.mark.parametrize("shows", [False, True])
async def test_where_no_certificate_is_asked_for_nobody_has_one(tmp_path: Path, shows):
    authority = Authority(tmp_path)
    client = authority.issue("client", "CN=camera-7") if shows else None
    assert await ask(authority, authority.issue("server"), client, require=False) == "None"


async def test_over_plain_text_nobody_has_one():
    running = grpc.aio.server(handlers=[Subject()])
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(METHOD)(b"") == b"None"
    await running.stop(0)
