"""Who may look at what: the page asks for the same credentials as gRPC, and tells no more."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from support.certificates import Authority, Issued, replace_file
from support.frames import jpeg
from support.identities import open_as, tokens_of
from support.page import look, paged
from support.waiting import until
from tilestream.config import ConfigError, load_settings
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc as rpc


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("server")


def trusts(authority: Authority, client: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


async def test_without_the_right_token_the_page_tells_nothing(tmp_path):
    (token,) = tokens_of(tmp_path / "tokens", "berlin")
    async with paged(token_file=tmp_path / "tokens") as r:
        stream = await open_as(r, token, camera_id="front")
        session = stream.started.session_id
        paths = ("api/server", "api/sessions", f"api/sessions/{session}/picture", "api/nothing")
        for shown in ("", "ts_wrong", token[:-1]):
            async with look(r, shown) as page:
                assert (await page.get(""))[0] == 200, "the files are no secret: they ask for the token"
                for path in paths:
                    status, headers, body = await page.get(path)
                    assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer")
                    assert b"front" not in body and session.encode() not in body
        async with look(r, token) as page:
            assert [row["camera"] for row in await page.sessions()] == ["front"]
            assert (await page.json("api/server"))["identity"] == "berlin"
        assert r.metric("tilestream_calls_refused_total", reason="unauthenticated") >= 12


async def test_an_identity_sees_the_sessions_that_list_sessions_shows_it(tmp_path):
    berlin, paris, watcher = tokens_of(tmp_path / "tokens", "berlin", "paris", "watcher")
    policy = tmp_path / "policy.yaml"
    policy.write_text("identities: {watcher: {sees_all: true, models: [other]}}")
    async with paged(token_file=tmp_path / "tokens", policy_file=policy) as r:
        streams = [await open_as(r, berlin, camera_id="b"), await open_as(r, paris, camera_id="p")]
        for token, cameras in ((berlin, ["b"]), (paris, ["p"]), (watcher, ["b", "p"])):
            async with look(r, token) as page:
                assert [row["camera"] for row in await page.sessions()] == cameras
                listed = await r.stub.ListSessions(
                    pb.ListSessionsRequest(), metadata=(("authorization", f"Bearer {token}"),)
                )
                assert [session.camera_id for session in listed.sessions] == cameras
        of_paris = f"api/sessions/{streams[1].started.session_id}/picture"
        async with look(r, berlin) as page:
            status, _, body = await page.get(of_paris)
            assert (status, body) == (404, (await page.get("api/sessions/s-0/picture"))[2]), (
                "as if it were not there"
            )
        async with look(r, watcher) as page:
            facts = await page.json("api/server")
            assert facts["sees_everybody"] and [model["name"] for model in facts["models"]] == ["other"]
            asking = asyncio.create_task(page.picture(streams[1].started.session_id))
            live = r.server._live_sessions.find(streams[1].started.session_id)
            await until(lambda: live.pipeline.tap is not None and live.pipeline.tap._waiting)
            await streams[1].frame(0, jpeg(2))
            await streams[1].result()
            assert (await asking).labels[0, 0] == 2


async def test_a_token_that_was_removed_opens_nothing(tmp_path):
    (token,) = tokens_of(tmp_path / "tokens", "berlin")
    async with paged(token_file=tmp_path / "tokens") as r, look(r, token) as page:
        assert await page.sessions() == []
        (tmp_path / "tokens").write_text("")

        async def refused() -> bool:
            return (await page.get("api/server"))[0] == 401

        async with asyncio.timeout(60):
            while not await refused():
                await asyncio.sleep(0.05)


async def test_one_identity_does_not_keep_others_from_looking(tmp_path):
    berlin, paris = tokens_of(tmp_path / "tokens", "berlin", "paris")
    async with paged(token_file=tmp_path / "tokens", web_viewers=3) as r:
        async with look(r, berlin) as page:
            for number in range(3):
                assert (await page.get("api/sessions", viewer=f"viewer-{number}"))[0] == 200
            assert (await page.get("api/sessions", viewer="viewer-3"))[0] == 429
        async with look(r, paris) as page:
            assert (await page.get("api/sessions"))[0] == 200
            assert (await page.get("api/sessions", viewer="viewer-2"))[0] == 429, "no more than its share"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example"])
def test_the_page_lets_strangers_in_on_loopback_only_unless_that_is_meant(host, tmp_path):
    with pytest.raises(ConfigError, match="web_host"):
        load_settings({"web_host": host, "web_port": 8080})
    assert load_settings({"web_host": host}), "there is no page"
    assert load_settings({"web_host": host, "web_port": 8080, "allow_anonymous": True}).lets_strangers_in
    assert not load_settings(
        {"web_host": host, "web_port": 8080, "token_file": tmp_path / "t"}
    ).lets_strangers_in


async def test_the_page_speaks_tls_where_the_server_does(
    authority: Authority, issued: Issued, tmp_path: Path
):
    async with paged(connect=authority.connect(), **issued.flags) as r:
        async with look(r, context=trusts(authority)) as page:
            assert await page.sessions() == []
            assert (await page.get("", headers={"Host": "cameras.example"}))[0] == 200, (
                "its certificate says who it is"
            )
        for context in (None, trusts(Authority(tmp_path, "other"))):
            async with look(r, context=context) as page:
                with pytest.raises(aiohttp.ClientError):
                    await page.get("")


async def test_renewed_certificates_are_shown_to_new_connections(
    authority: Authority, issued: Issued, tmp_path: Path
):
    new_authority = Authority(tmp_path, "new-ca")
    new = new_authority.issue("new")
    async with paged(connect=authority.connect(), **issued.flags) as r:
        async with look(r, context=trusts(authority)) as page:
            assert await page.sessions() == []
        replace_file(issued.certificate, new.certificate.read_bytes())
        replace_file(issued.key, new.key.read_bytes())
        async with look(r, context=trusts(new_authority)) as page:
            assert await page.sessions() == []
        async with look(r, context=trusts(authority)) as page:
            with pytest.raises(aiohttp.ClientError):
                await page.get("")


SUBJECTS = [
    "CN=camera-7,O=Fleet",
    "CN=a b,OU=x\\+y,O=\\#1\\, Fleet\\;,C=DE",
    "CN=\\ kamera\\ ",
    "CN=kamera ü-Größe 中",
    "UID=7,DC=fleet,DC=example",
    "1.2.840.113549.1.9.1=ops@fleet.example,CN=ops",
    "STREET=Way 1,L=Berlin,ST=BE,CN=x",
    "CN=a+OU=b,O=c",
    "2.5.4.17=10115,2.5.4.44=II,2.5.4.43=E,2.5.4.65=P,2.5.4.46=q,2.5.4.5=4711",
    "2.5.4.4=Meier,2.5.4.42=Eva,2.5.4.12=Dr,CN=eva",
    "",
]


async def test_a_certificate_names_the_same_identity_as_for_grpc(
    authority: Authority, issued: Issued, tmp_path: Path
):
    policy = tmp_path / "policy.yaml"
    policy.write_text("default: {sees_all: true}")
    flags = {**issued.flags, "tls_client_ca": authority.certificate, "policy_file": policy}
    own = authority.issue("own", "CN=own")
    async with paged(connect=authority.connect(own), **flags) as r:
        for number, subject in enumerate(SUBJECTS):
            names = () if subject else ("spiffe://fleet/camera-7",)
            client = authority.issue(f"client-{number}", subject, names=names)
            async with authority.connect(client)(f"127.0.0.1:{r.server.port}") as channel:
                call = rpc.SegmentationServiceStub(channel).StreamSegment()
                await call.write(pb.StreamSegmentRequest(config=pb.SessionConfig(camera_id=str(number))))
                session = (await call.read()).session_started.session_id
                async with look(r, context=trusts(authority, client)) as page:
                    facts = await page.json("api/server")
                    (row,) = [row for row in await page.sessions() if row["session"] == session]
                call.cancel()
            assert facts["identity"] == row["identity"] != "", subject


async def test_whoever_shows_no_certificate_does_not_get_through(
    authority: Authority, issued: Issued, tmp_path: Path
):
    flags = {**issued.flags, "tls_client_ca": authority.certificate}
    stranger = Authority(tmp_path, "others").issue("stranger", "CN=camera-7")
    async with paged(connect=authority.connect(authority.issue("own", "CN=own")), **flags) as r:
        for client in (None, stranger):
            async with look(r, context=trusts(authority, client)) as page:
                with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                    await page.get("")
