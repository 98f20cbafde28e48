"""Who may call, and what an identity may do, through real sockets."""

import json
import logging
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from typer.testing import CliRunner

from support.clock import ManualClock
from support.frames import jpeg
from support.identities import Issuer, open_as, shows, tokens_of
from support.server import running, status_details
from support.waiting import until
from tilestream.cli import app
from tilestream.config import ConfigError, load_settings
from tilestream.v1 import segmentation_pb2 as pb

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


async def code_of(call) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("metadata", [(), shows("ts_wrong"), (("authorization", "Basic YTpi"),)])
async def test_without_the_right_token_nothing_is_allocated_and_nothing_told(tmp_path, metadata, caplog):
    caplog.set_level(logging.DEBUG)
    tokens_of(tmp_path / "t", "berlin")
    async with running(token_file=tmp_path / "t") as r:
        call = r.stub.StreamSegment(metadata=metadata)
        assert await call.code() is UNAUTHENTICATED
        for ask in (r.stub.ListSessions(pb.ListSessionsRequest(), metadata=metadata),
                    r.stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=metadata)):  # fmt: skip
            assert await code_of(ask) is UNAUTHENTICATED
        reflection = reflection_pb2_grpc.ServerReflectionStub(r.channel).ServerReflectionInfo()
        assert await reflection.code() is UNAUTHENTICATED
        assert not r.engine.open_sessions and not len(r.server.registry)
        assert r.metric("tilestream_calls_refused_total", reason="unauthenticated") == 4
        assert "ts_wrong" not in caplog.text


async def test_a_token_names_its_sessions_and_health_needs_none(tmp_path):
    (token,) = tokens_of(tmp_path / "t", "berlin")
    async with running(token_file=tmp_path / "t") as r:
        stream = await open_as(r, token, camera_id="c")
        assert stream.started.session_id
        (session,) = (await r.stub.ListSessions(pb.ListSessionsRequest(), metadata=shows(token))).sessions
        assert session.identity == "berlin"
        answer = await health_pb2_grpc.HealthStub(r.channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_every_session_leaves_a_line_that_says_who_and_how_much(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (token,) = tokens_of(tmp_path / "t", "berlin")
    async with running(token_file=tmp_path / "t") as r:
        stream = await open_as(r, token, camera_id="front")
        await stream.frame(1, jpeg())
        answered = await stream.result()
        await stream.done()
        await stream.rest()
        await until(lambda: not len(r.server.registry))
    (line,) = [record for record in caplog.records if record.name == "tilestream.audit"]
    assert (line.identity, line.camera, line.cause) == ("berlin", "front", "finished")
    assert line.peer.startswith("ipv4:127.0.0.1:") and line.seconds >= 0
    assert (line.frames_received, line.frames_ok, line.bytes_received) == (1, 1, len(jpeg()))
    assert line.bytes_sent == len(answered.mask.data) and token not in caplog.text


async def test_tokens_are_read_again_when_their_file_changes(tmp_path):
    clock, file = ManualClock(), tmp_path / "t"
    (old,) = tokens_of(file, "old")
    async with running(clock=clock, token_file=file) as r:
        (new,) = tokens_of(file, "new")
        ask = lambda token: code_of(r.stub.ListModels(pb.ListModelsRequest(), metadata=shows(token)))  # noqa: E731
        assert await ask(new) is UNAUTHENTICATED
        clock.advance(1.0)
        assert await ask(new) is grpc.StatusCode.OK
        result = CliRunner().invoke(app, ["token", "remove", "old", "--file", str(file)])
        assert result.exit_code == 0
        clock.advance(1.0)
        assert await ask(old) is UNAUTHENTICATED and await ask(new) is grpc.StatusCode.OK
        file.write_text("nonsense\n")  # a typing error shuts nobody out
        clock.advance(1.0)
        assert await ask(new) is grpc.StatusCode.OK


def test_the_command_prints_a_token_once_and_stores_its_hash(tmp_path):
    file = tmp_path / "t"
    result = CliRunner().invoke(app, ["token", "add", "berlin", "--file", str(file)])
    token = result.stdout.strip()
    assert result.exit_code == 0 and token.startswith("ts_") and token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert CliRunner().invoke(app, ["token", "list", "--file", str(file)]).stdout == "berlin\n"
    assert CliRunner().invoke(app, ["token", "add", "no good", "--file", str(file)]).exit_code == 1


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"exp": time.time() - 3600}, "expired"),
        ({"aud": "others"}, "another audience"),
        ({"iss": "https://else"}, "another issuer"),
        ({"sub": "CN=ops"}, "cannot be used as a name"),
        ({"sub": ""}, "cannot be used as a name"),
    ],
)
async def test_jwts_are_held_to_their_claims(tmp_path, claims, text):
    issuer, keys = Issuer(), tmp_path / "jwks.json"
    keys.write_text(json.dumps(issuer.key_set()))
    rules = {"jwks_file": keys, "jwt_issuer": "https://issuer", "jwt_audience": "tilestream"}
    async with running(**rules) as r:
        good = r.stub.ListModels(pb.ListModelsRequest(), metadata=shows(issuer.token()))
        assert await code_of(good) is grpc.StatusCode.OK
        for token, why in ((issuer.token(**claims), text), (Issuer().token(), "signature is wrong"),
                           (Issuer("k2").token(), "key is not known")):  # fmt: skip
            stream = await open_as(r, token)
            code, details = await stream.status()
            assert code is UNAUTHENTICATED and why in details and token not in details


async def test_only_its_own_identity_resumes_a_session(tmp_path):
    berlin, paris = tokens_of(tmp_path / "t", "berlin", "paris")
    async with running(token_file=tmp_path / "t") as r:
        stream = await open_as(r, berlin)
        stream.call.cancel()
        await until(lambda: r.metric("tilestream_sessions_suspended") == 1)
        other = await open_as(r, paris, resume_token=stream.started.resume_token)
        assert other.started.session_id and not other.started.resumed
        own = await open_as(r, berlin, resume_token=stream.started.resume_token)
        assert own.started.resumed


POLICY = """
default: {sessions: 1}
identities:
  berlin: {sessions: 2, models: [other], max_frame_pixels: 4096, frames_per_second: 2}
  ops: {sees_all: true, sessions: 0}
"""


async def test_a_policy_bounds_sessions_and_a_detached_one_counts(tmp_path):
    (tmp_path / "p").write_text(POLICY)
    berlin, paris, ops = tokens_of(tmp_path / "t", "berlin", "paris", "ops")
    async with running(token_file=tmp_path / "t", policy_file=tmp_path / "p", retry_delay=1.5) as r:
        first, second = await open_as(r, berlin), await open_as(r, berlin)
        first.call.cancel()
        await until(lambda: r.metric("tilestream_sessions_suspended") == 1)
        third = await open_as(r, berlin)
        code, details = await third.status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "2 sessions" in details
        info = await status_details(third.call, error_details_pb2.RetryInfo)
        assert info.retry_delay.ToMilliseconds() == 1500
        assert (await status_details(third.call, error_details_pb2.ErrorInfo)).reason == "QUOTA"
        again = await open_as(r, berlin, resume_token=first.started.resume_token)
        assert again.started.resumed and second.started.session_id
        assert (await open_as(r, paris)).started.session_id  # somebody else's quota is its own
        assert (await (await open_as(r, ops)).status())[0] is grpc.StatusCode.PERMISSION_DENIED

        async def seen(token):
            return (await r.stub.ListSessions(pb.ListSessionsRequest(), metadata=shows(token))).total

        assert [await seen(token) for token in (berlin, paris, ops)] == [2, 1, 3]


async def test_a_policy_bounds_models_and_the_largest_frame(tmp_path):
    (tmp_path / "p").write_text(POLICY)
    (berlin,) = tokens_of(tmp_path / "t", "berlin")
    async with running(token_file=tmp_path / "t", policy_file=tmp_path / "p") as r:
        code, details = await (await open_as(r, berlin, model="fake")).status()
        assert code is grpc.StatusCode.PERMISSION_DENIED and "allowed: other" in details
        listed = await r.stub.ListModels(pb.ListModelsRequest(), metadata=shows(berlin))
        assert [model.name for model in listed.models] == ["other"]
        stream = await open_as(r, berlin)
        assert stream.started.model.name == "other" and stream.started.limits.max_frame_pixels == 4096
        await stream.frame(1, jpeg(width=80, height=80))
        assert (await stream.result()).invalid_reason == pb.INVALID_REASON_TOO_MANY_PIXELS


async def test_frames_above_the_rate_are_dropped_over_all_sessions_of_an_identity(tmp_path):
    (tmp_path / "p").write_text(POLICY)
    (berlin,) = tokens_of(tmp_path / "t", "berlin")
    clock = ManualClock()
    async with running(clock=clock, token_file=tmp_path / "t", policy_file=tmp_path / "p") as r:
        streams = [await open_as(r, berlin), await open_as(r, berlin)]
        assert streams[0].started.limits.max_frames_per_second == 2
        reasons = []
        for frame_id in range(2):
            for stream in streams:
                await stream.frame(frame_id, jpeg())
                reasons.append((await stream.result()).drop_reason)
        assert reasons == [0, 0, pb.DROP_REASON_QUOTA, pb.DROP_REASON_QUOTA]
        clock.advance(0.5)
        await streams[0].frame(9, jpeg())
        assert (await streams[0].result()).status == pb.FRAME_STATUS_OK
        assert r.metric("tilestream_frames_dropped_total", reason="quota") == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.7", "camera-server"])
def test_strangers_are_let_in_on_loopback_only_unless_that_is_meant(host, tmp_path):
    with pytest.raises(ConfigError, match="allow_anonymous"):
        load_settings({"host": host})
    assert load_settings({"host": host, "allow_anonymous": True}).lets_strangers_in
    assert not load_settings({"host": host, "token_file": tmp_path / "t"}).lets_strangers_in


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "unix:/run/tilestream.sock"])
def test_loopback_needs_no_credentials(host):
    assert load_settings({"host": host}).lets_strangers_in
