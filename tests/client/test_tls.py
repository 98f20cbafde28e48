"""Secure connections of both clients and of the commands, and why there is none, through real sockets."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from support.certificates import EXPIRED, NOT_YET, Authority, Issued
from tilestream_client import AsyncClient, Client, ConnectionFailed, InvalidConfig, Tls, TlsFailed
from tilestream_client.cli import app

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Place:
    """Who issues certificates here, and a few that are issued."""

    authority: Authority
    others: Authority
    server: Issued
    camera: Issued

    @property
    def trust(self) -> Tls:
        return Tls(ca=self.authority.certificate)

    def showing(self, issued: Issued) -> Tls:
        return Tls(self.authority.certificate, issued.certificate, issued.key)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    authority, others = Authority(tmp_path), Authority(tmp_path, "others")
    return Place(authority, others, authority.issue("server"), authority.issue("camera", "CN=camera-7"))


# What gets through.


def test_frames_travel_encrypted(serve, place, images):
    server = serve(credentials=place.authority.serve(place.server))
    with Client(server.target, tls=place.trust) as client:
        assert [result.frame_id for result in client.stream(images)] == list(range(10))


async def test_frames_of_an_asyncio_client_travel_encrypted_and_it_shows_its_certificate(
    serve, place, images
):
    server = serve(credentials=place.authority.serve(place.server, mutual=True))
    async with AsyncClient(server.target, tls=place.showing(place.camera)) as client:
        assert [result.frame_id async for result in client.stream(images)] == list(range(10))


def test_a_server_is_known_by_another_name_than_its_address(serve, place):
    issued = place.authority.issue("elsewhere", names=("segmentation.example",))
    server = serve(credentials=place.authority.serve(issued))
    with Client(server.target, tls=replace(place.trust, server_name="segmentation.example")) as client:
        assert client.models()


def test_the_authorities_of_the_system_are_the_default(serve, place, monkeypatch):
    server = serve(credentials=place.authority.serve(place.server))
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(place.authority.certificate))
    with Client(server.target, tls=True) as client:
        assert client.models()
    monkeypatch.setenv("SSL_CERT_FILE", str(place.others.certificate))
    with Client(server.target, tls=True) as client, pytest.raises(TlsFailed):
        client.models()
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(place.authority.certificate))
    with Client(server.target, tls=True) as client:
        assert client.models()


def test_credentials_of_grpc_go_as_well(serve, place):
    server = serve(credentials=place.authority.serve(place.server))
    credentials = grpc.ssl_channel_credentials(place.authority.certificate.read_bytes())
    with Client(server.target, credentials=credentials) as client:
        assert client.models()
    with pytest.raises(InvalidConfig, match="tls: cannot be given beside credentials"):
        Client(server.target, tls=True, credentials=credentials)


# What does not, and what is said then.


@dataclass(frozen=True)
class Failure:
    """A server's and a client's side that do not go together. ``server``: days, names; None: plain text."""

    says: str
    server: dict | None = field(default_factory=dict)
    mutual: bool = False
    trusts: str = "authority"
    shows: str = ""
    tls: bool = True


FAILURES = {
    "the server's certificate has expired": Failure(
        "its certificate has expired: renew it", {"days": EXPIRED}
    ),
    "it is not valid yet": Failure(
        "its certificate is not valid yet: set this machine's clock", {"days": NOT_YET}
    ),
    "another name": Failure(
        "its certificate is for seg.example, 192.0.2.1, not for 127.0.0.1: connect by such a name",
        {"names": ("seg.example", "192.0.2.1")},
    ),
    "unknown authority": Failure("not of an authority that this client trusts: give", trusts="others"),
    "nothing to show": Failure("lets in only clients that show a certificate", mutual=True),
    "of an authority that the server does not know": Failure(
        "does not take this client's certificate", mutual=True, shows="stranger"
    ),
    "plain text to a server with TLS": Failure("it speaks TLS and this client does not: use TLS", tls=False),
    "plain text to a server with mTLS": Failure(
        "it speaks TLS and this client does not", mutual=True, tls=False
    ),
    "TLS to a server without": Failure(
        "it does not speak TLS and this client does: connect without", server=None
    ),
}


def at_odds(failure: Failure, serve, place: Place) -> tuple[str, Tls | bool]:
    """A server's address, and what a client says to it."""
    credentials = None
    if failure.server is not None:
        issued = place.authority.issue("odd", **failure.server)
        credentials = place.authority.serve(issued, mutual=failure.mutual)
    shown = place.others.issue("stranger", "CN=camera-7") if failure.shows else None
    own = (shown.certificate, shown.key) if shown else ()
    ca = getattr(place, failure.trusts).certificate
    return serve(credentials=credentials).target, Tls(ca, *own) if failure.tls else False


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_why_there_is_no_connection(serve, place, failure):
    target, tls = at_odds(failure, serve, place)
    with Client(target, tls=tls) as client:
        with pytest.raises(TlsFailed) as asked:
            client.models()
        with pytest.raises(TlsFailed) as streamed:
            list(client.stream([b"x"]))
    for raised in (asked, streamed):
        assert str(raised.value).startswith(f"cannot connect to {target}: ")
        assert failure.says in str(raised.value)
        assert raised.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_why_an_asyncio_client_has_no_connection(serve, place, failure):
    target, tls = at_odds(failure, serve, place)
    async with AsyncClient(target, tls=tls) as client:
        with pytest.raises(TlsFailed) as asked:
            await client.info()
        with pytest.raises(TlsFailed) as streamed:
            async for _ in client.stream([b"x"]):
                pass
    assert failure.says in str(asked.value) and failure.says in str(streamed.value)


def test_where_nobody_listens_tls_is_not_blamed(place):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for tls in (False, place.trust):
            with Client(f"127.0.0.1:{unused.getsockname()[1]}", tls=tls) as client:
                with pytest.raises(ConnectionFailed, match="is the server running there") as raised:
                    client.models()
                assert not isinstance(raised.value, TlsFailed)


def test_a_server_that_fails_for_another_reason_is_not_blamed_on_tls(serve, place):
    """Something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = f"127.0.0.1:{listening.getsockname()[1]}"
        with (
            Client(target, tls=place.trust, timeout=1.0) as client,
            pytest.raises(ConnectionFailed) as raised,
        ):
            client.models()
        assert not isinstance(raised.value, TlsFailed)


def test_a_certificate_that_expires_while_a_client_runs(serve, place):
    old = place.authority.issue("old", "CN=camera-7", days=EXPIRED)
    server = serve(credentials=place.authority.serve(place.server, mutual=True))
    with Client(server.target, tls=place.showing(place.others.issue("mine", "CN=camera-7"))) as client:
        for path, content in (("mine.pem", old.certificate), ("mine.key", old.key)):
            (old.key.parent / path).write_bytes(content.read_bytes())
        with pytest.raises(TlsFailed, match=r"mine\.pem has expired: renew it"):
            client.models()


# Files that cannot be used are told of when the client is made.


@pytest.mark.parametrize("make", [Client, AsyncClient])
async def test_files_are_looked_at_first(place, tmp_path, make):
    absent, other = tmp_path / "absent", tmp_path / "other"
    other.write_text("garbage")
    ca, camera, old = (
        place.authority.certificate,
        place.camera,
        place.authority.issue("old", "CN=a", days=EXPIRED),
    )
    half = tmp_path / "half.pem"
    half.write_bytes(ca.read_bytes()[:100] + b"\n-----END CERTIFICATE-----\n")
    for tls, option, problem in (
        (Tls(ca=absent), "ca", f"cannot read {absent}: No such file"),
        (Tls(ca=other), "ca", f"{other} holds none; it has to be PEM"),
        (Tls(ca=half), "ca", f"{half} holds a certificate that cannot be read"),
        (Tls(ca, camera.certificate), "key", "is missing: certificate is given"),
        (Tls(ca, key=camera.key), "certificate", "is missing: key is given"),
        (Tls(ca, absent, camera.key), "certificate", f"cannot read {absent}"),
        (Tls(ca, camera.certificate, absent), "key", f"cannot read {absent}"),
        (Tls(ca, camera.key, camera.certificate), "certificate", "holds none"),
        (Tls(ca, camera.certificate, place.server.key), "key", "is not the key of the first certificate"),
        (Tls(ca, half, camera.key), "certificate", "cannot be read"),
        (Tls(ca, old.certificate, old.key), "certificate", "has expired: renew it"),
    ):
        with pytest.raises(InvalidConfig) as raised:
            make("localhost:50051", tls=tls)
        (wrong,) = raised.value.fields
        assert wrong.field == option and problem in wrong.problem, tls


# The command.


def run(*words: object, **variables: object):
    return CliRunner().invoke(
        app, [str(word) for word in words], env={k: str(v) for k, v in variables.items()}
    )


def test_the_command_takes_files_and_variables(serve, place):
    server = serve(credentials=place.authority.serve(place.server, mutual=True))
    files = {
        "ca": place.authority.certificate,
        "certificate": place.camera.certificate,
        "key": place.camera.key,
    }
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    told = run("info", "--server", server.target, *words)
    assert told.exit_code == 0 and "9.9.9" in told.output
    variables = {f"TILESTREAM_{name.upper()}": path for name, path in files.items()}
    told = run("models", "--server", server.target, **variables)
    assert told.exit_code == 0 and "fake" in told.output
    named = ("--server-name", "localhost")
    assert run("sessions", "--server", server.target, *words, *named).exit_code == 0


def test_the_command_says_why_not(serve, place):
    server = serve(credentials=place.authority.serve(place.server))
    told = run("info", "--server", server.target)
    assert told.exit_code == 1
    assert "speaks TLS and this client does not" in told.stderr
    told = run("info", "--server", server.target, "--tls")
    assert told.exit_code == 1 and "give the authority's certificate by the option ca" in told.stderr
    told = run("info", "--server", server.target, "--certificate", place.camera.certificate)
    assert told.exit_code == 1 and "key: is missing" in told.stderr


@pytest.mark.parametrize(
    ("ours", "theirs"), [("tls.py", "tls/client.py"), ("tls_failures.py", "tls/client_failures.py")]
)
def test_the_server_s_commands_have_the_same_modules(ours, theirs):
    client, server = ROOT / "client/python/tilestream_client", ROOT / "server/tilestream"
    assert (client / ours).read_bytes() == (server / theirs).read_bytes(), f"copy {ours} to {theirs}"
