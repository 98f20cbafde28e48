"""A server that speaks TLS, on real sockets: who gets in, and what changes when its files do."""

import asyncio
import contextlib
import math
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest

from support.certificates import EXPIRED, VALID, Authority, Issued, replace_file
from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.processes import free_port
from support.server import config, refused, running
from tilestream.config import Settings
from tilestream.server import Server, StartError
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc as rpc


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("server")


async def ask_info(channel: grpc.aio.Channel) -> pb.GetServerInfoResponse:
    method = "/tilestream.v1.SegmentationService/GetServerInfo"
    call = channel.unary_unary(
        method, pb.GetServerInfoRequest.SerializeToString, pb.GetServerInfoResponse.FromString
    )
    async with channel:
        return await call(pb.GetServerInfoRequest(), timeout=60)


async def is_let_in(channel: grpc.aio.Channel) -> bool:
    try:
        await ask_info(channel)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        return False
    return True


async def test_frames_travel_encrypted(authority: Authority, issued: Issued):
    async with running(connect=authority.connect(), **issued.flags) as r:
        stream = await r.open()
        await stream.frame(0, jpeg())
        assert (await stream.result()).status == pb.FRAME_STATUS_OK
        await stream.done()
        assert await stream.results() == []
        assert (await stream.status())[0] is grpc.StatusCode.OK


async def test_only_who_trusts_the_authority_gets_through_and_nobody_in_plain_text(
    authority: Authority, issued: Issued, tmp_path: Path
):
    async with running(connect=authority.connect(), **issued.flags) as r:
        target = f"127.0.0.1:{r.server.port}"
        assert await is_let_in(authority.connect()(target))
        assert not await is_let_in(Authority(tmp_path, "other").connect()(target))
        assert not await is_let_in(grpc.aio.insecure_channel(target))


async def test_clients_have_to_show_a_certificate(authority: Authority, issued: Issued, tmp_path: Path):
    others = Authority(tmp_path, "others")
    stranger = others.issue("stranger", "CN=camera-7")
    old = authority.issue("old", "CN=camera-7", days=EXPIRED)
    camera = authority.issue("camera", "CN=camera-7")
    flags = {**issued.flags, "tls_client_ca": authority.certificate}
    async with running(connect=authority.connect(camera), **flags) as r:
        target = f"127.0.0.1:{r.server.port}"
        assert (await r.open()).started.session_id
        for shown, expected in ((camera, True), (None, False), (stranger, False), (old, False)):
            assert await is_let_in(authority.connect(shown)(target)) == expected, shown
        assert not await is_let_in(grpc.aio.insecure_channel(target))


async def test_a_certificate_s_subject_is_the_identity_that_a_policy_bounds(
    authority: Authority, issued: Issued, tmp_path: Path
):
    policy = tmp_path / "policy.yaml"
    policy.write_text("identities: {'CN=camera-7': {sessions: 1}, 'CN=operator': {sees_all: true}}")
    camera, operator = (authority.issue(name, f"CN={name}") for name in ("camera-7", "operator"))
    flags = {**issued.flags, "tls_client_ca": authority.certificate, "policy_file": policy}
    async with running(connect=authority.connect(camera), **flags) as r:
        await r.open()
        second = await refused(r, config())
        assert (await second.status())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with authority.connect(operator)(f"127.0.0.1:{r.server.port}") as channel:
            stub = rpc.SegmentationServiceStub(channel)
            (session,) = (await stub.ListSessions(pb.ListSessionsRequest())).sessions
        assert session.identity == "CN=camera-7"


async def test_certificates_change_without_ending_a_stream(authority: Authority, issued: Issued, tmp_path):
    new_authority = Authority(tmp_path, "new-ca")
    new = new_authority.issue("new")
    async with running(connect=authority.connect(), **issued.flags) as r:
        target = f"127.0.0.1:{r.server.port}"
        stream = await r.open()
        await stream.frame(0, jpeg())
        assert (await stream.result()).frame_id == 0

        replace_file(issued.certificate, new.certificate.read_bytes())
        assert await is_let_in(authority.connect()(target)), "half of a renewal changes nothing"
        replace_file(issued.key, new.key.read_bytes())
        assert await is_let_in(new_authority.connect()(target))
        assert not await is_let_in(authority.connect()(target))

        await stream.frame(1, jpeg())
        assert (await stream.result()).frame_id == 1
        await stream.done()
        assert await stream.results() == []
        assert (await stream.status())[0] is grpc.StatusCode.OK


async def test_the_authority_of_clients_changes_with_its_file(authority: Authority, issued: Issued, tmp_path):
    others = Authority(tmp_path, "others")
    camera, other = authority.issue("camera", "CN=a"), others.issue("other", "CN=b")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    async with running(connect=authority.connect(camera), **issued.flags, tls_client_ca=trusted) as r:
        target = f"127.0.0.1:{r.server.port}"
        stream = await r.open()
        replace_file(trusted, others.certificate.read_bytes())
        assert await is_let_in(authority.connect(other)(target))
        assert not await is_let_in(authority.connect(camera)(target))
        await stream.frame(0, jpeg())  # who is in stays in
        assert (await stream.result()).frame_id == 0
        replace_file(trusted, authority.certificate.read_bytes() + others.certificate.read_bytes())
        assert await is_let_in(authority.connect(other)(target))
        assert await is_let_in(authority.connect(camera)(target))


def handshake(port: int, authority: Authority, version: ssl.TLSVersion) -> str | None:
    """The version that was agreed on, where this is the only one that the client speaks."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.settimeout(60)
        with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            return wrapped.version()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_versions_before_1_2_are_refused(authority: Authority, issued: Issued):
    port = free_port()
    flags = {"metrics_host": "0.0.0.0", "metrics_port": port}
    async with running(connect=authority.connect(), **issued.flags, **flags) as r:
        for listening in (r.server.port, port):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert await asyncio.to_thread(handshake, listening, authority, version)
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await asyncio.to_thread(handshake, listening, authority, version)


# What a server that cannot start says.


async def start_error(**settings) -> str:
    server = Server(Settings(port=0, **settings), FakeEngine)
    with pytest.raises(StartError) as raised:
        await server.start()
    return str(raised.value)


async def test_a_server_whose_files_cannot_be_used_does_not_start(
    authority: Authority, issued: Issued, tmp_path
):
    absent = tmp_path / "absent"
    assert f"cannot read the certificate file {absent}" in await start_error(
        tls_certificate=absent, tls_key=issued.key
    )
    other = authority.issue("other")
    text = await start_error(tls_certificate=issued.certificate, tls_key=other.key)
    assert f"{other.key} is not the key of the first certificate" in text
    old = authority.issue("old", days=EXPIRED)
    assert "expired on" in await start_error(**old.flags)
    text = await start_error(**issued.flags, tls_client_ca=issued.key)
    assert f"{issued.key} holds no certificate" in text


# The metrics.


def scrape(url: str, authority: Authority, client: Issued | None = None) -> str:
    context = ssl.create_default_context(cafile=authority.certificate)
    if client:
        context.load_cert_chain(client.certificate, client.key)
    with urllib.request.urlopen(url, timeout=60, context=context) as page:
        return page.read().decode()


async def test_metrics_are_as_well_protected_as_the_rest(authority: Authority, issued: Issued, tmp_path):
    port, camera = free_port(), authority.issue("camera", "CN=prometheus")
    flags = {**issued.flags, "metrics_host": "0.0.0.0", "metrics_port": port}
    url = f"https://localhost:{port}/metrics"
    async with running(connect=authority.connect(), **flags):
        assert "tilestream_sessions 0.0" in await asyncio.to_thread(scrape, url, authority)
        with pytest.raises((urllib.error.URLError, ConnectionError, OSError)):
            await asyncio.to_thread(scrape, url.replace("https", "http"), authority)
        new_authority = Authority(tmp_path, "new-ca")
        new = new_authority.issue("new")
        replace_file(issued.certificate, new.certificate.read_bytes())
        assert await asyncio.to_thread(scrape, url, authority), "half of a renewal changes nothing"
        replace_file(issued.key, new.key.read_bytes())
        assert await asyncio.to_thread(scrape, url, new_authority)
    port = free_port()
    flags |= {"metrics_port": port, "tls_client_ca": authority.certificate}
    url = f"https://localhost:{port}/metrics"
    async with running(connect=authority.connect(camera), **flags):
        assert await asyncio.to_thread(scrape, url, new_authority, camera)
        with pytest.raises((urllib.error.URLError, ConnectionError, OSError)):
            await asyncio.to_thread(scrape, url, new_authority)


async def test_metrics_tell_when_the_certificate_expires_and_notice_a_new_one(
    authority: Authority, issued: Issued, caplog
):
    name = "tilestream_certificate_expiry_timestamp_seconds"
    caplog.set_level("INFO")
    async with running(connect=authority.connect(), **issued.flags, metrics_port=free_port()) as r:
        first = r.metric(name)
        assert VALID[1] - 1 < (first - time.time()) / 86400 < VALID[1]
        longer = authority.issue("longer", days=(-1, 90))
        for old, new in ((issued.certificate, longer.certificate), (issued.key, longer.key)):
            replace_file(old, new.read_bytes())
        assert r.metric(name) > first + 59 * 86400
        assert "certificates were read again" in caplog.messages
    async with running() as r:
        assert math.isnan(r.metric(name))


async def test_on_loopback_metrics_stay_in_plain_text(authority: Authority, issued: Issued):
    port = free_port()
    async with running(connect=authority.connect(), **issued.flags, metrics_port=port):
        page = await asyncio.to_thread(scrape, f"http://127.0.0.1:{port}/metrics", authority)
        assert "tilestream_sessions 0.0" in page


async def test_a_silent_peer_does_not_hold_up_the_metrics(authority: Authority, issued: Issued):
    port = free_port()
    flags = {**issued.flags, "metrics_host": "0.0.0.0", "metrics_port": port}
    async with running(connect=authority.connect(), **flags):
        with contextlib.ExitStack() as silent:
            for _ in range(8):
                silent.enter_context(socket.create_connection(("127.0.0.1", port)))
            url = f"https://localhost:{port}/metrics"
            assert "tilestream_sessions 0.0" in await asyncio.to_thread(scrape, url, authority)
