"""Tokens and metadata that gRPC would refuse with "Invalid metadata" in every call."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from tilestream_client import AsyncClient, Client, InvalidConfig
from tilestream_client.cli import app


@pytest.mark.parametrize("token", ["abc.def-1~", "  abc.def-1~", "abc.def-1~\n", "\tabc.def-1~\r\n"])
def test_white_space_at_the_ends_is_not_sent(serve, token):
    server = serve()
    with Client(server.target, token=token) as client:
        list(client.stream([b"x"]))
    assert server.records[0].metadata["authorization"] == "Bearer abc.def-1~"


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("secret\nvalue", "character 7 of 12 is white space"),
        ("  secret\tvalue", "character 9 of 14 is white space"),
        ("secret\tvalue", "character 7 of 12 is white space"),
        ("secr\x00et", "character 5 of 7 is a control or non-ASCII character"),
        ("secrët", "character 5 of 6 is a control or non-ASCII character"),
        ("\u200bsecret", "character 1 of 7 is a control or non-ASCII character"),
        (" \n", "nothing but white space"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_the_client_is_made(make, token, problem):
    with pytest.raises(InvalidConfig) as refused:
        make("localhost:1", token=token)
    assert str(refused.value) == f"token: {refused.value.fields[0].problem}" and problem in str(refused.value)
    assert "secr" not in str(refused.value) and "value" not in str(refused.value)


def test_the_command_says_it_in_one_line():
    for way in ({"env": {"TILESTREAM_TOKEN": "sec\nret"}}, {"args": ["--token", "sec\nret"]}):
        command = ["models", "--server", "localhost:1", *way.get("args", [])]
        result = CliRunner().invoke(app, command, env=way.get("env"))
        assert result.exit_code == 1 and "token: character 4 of 7 is white space" in result.output
        assert result.output.count("\n") == 1 and "sec" not in result.output


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (("Trace Parent", "x"), "the key 'Trace Parent'"),
        (("trace", "se\ncret"), "character 3 of the value of trace"),
        (("trace", b"secret"), "end the key in -bin"),
    ],
)
def test_metadata_that_cannot_be_sent_is_refused_too(pair, problem):
    with pytest.raises(InvalidConfig, match=problem) as refused:
        Client("localhost:1", metadata=[("x-right", "1"), pair])
    assert "cret" not in str(refused.value)


def test_metadata_that_can_be_sent_is(serve):
    server = serve()
    with Client(server.target, metadata=[("x-text", "a b"), ("x-bytes-bin", b"\0\xff")]) as client:
        list(client.stream([b"x"]))
    assert server.records[0].metadata["x-text"] == "a b"
    assert server.records[0].metadata["x-bytes-bin"] == b"\0\xff"
