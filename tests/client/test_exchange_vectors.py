"""The rules that the clients of all languages keep, run against this one: proto/testdata/exchange."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from tilestream_client import errors
from tilestream_client.exchange import Exchange, Step
from tilestream_client.reconnect import Reconnect
from tilestream_client.sources import Frame
from tilestream_client.v1 import segmentation_pb2 as pb
from tools import exchange_scripts

FOLDER = Path(__file__).resolve().parents[2] / "proto" / "testdata" / "exchange"
UNITS = {True: b"\0\0\1\x65\x88", False: b"\0\0\1\x41\x9a"}  # of H.264, by whether they are key units
SCRIPTS = [
    pytest.param(script, id=f"{path.stem}: {script['name']}")
    for path in sorted(FOLDER.glob("*.json"))
    for script in json.loads(path.read_text())["scripts"]
]


class Player:
    """Plays one script; every step is a method of its name."""

    def __init__(self, script: dict[str, Any]) -> None:
        policy = dict(script["reconnect"])
        jitter = policy.pop("jitter")
        self.now = 100.0
        config = json_format.ParseDict(script.get("config", {}), pb.SessionConfig())
        self.exchange = Exchange(config, lambda: self.now, Reconnect(**policy))
        self.exchange._back_off._uniform = lambda low, high: low + (high - low) * jitter
        self.call = 0

    def opening(self, step: dict[str, Any]) -> None:
        config = self.exchange.opening_request().config
        assert config.resume_token == base64.b64decode(step["resume_token"] or "")
        has_last = config.HasField("last_result_id")
        assert (config.last_result_id if has_last else None) == step["last_result_id"]

    def receive(self, step: dict[str, Any]) -> None:
        response = json_format.ParseDict(step["response"], pb.StreamSegmentResponse())
        self._receive(response, step)

    def answer(self, step: dict[str, Any]) -> None:
        for frame_id in step["frames"]:
            result = pb.FrameResult(frame_id=frame_id, status=pb.FRAME_STATUS_DROPPED)
            self._receive(pb.StreamSegmentResponse(result=result), step)

    def _receive(self, response: pb.StreamSegmentResponse, step: dict[str, Any]) -> None:
        call = step.get("call", self.call)
        if "fails" in step:
            with pytest.raises(getattr(errors, step["fails"])):
                self.exchange.receive(response, call)
        else:
            self.exchange.receive(response, call)

    def offer(self, step: dict[str, Any]) -> None:
        data = UNITS[step["key"]] if "key" in step else b"x"
        self.exchange.offer(Frame(data=data), data)

    def source_ended(self, step: dict[str, Any]) -> None:
        self.exchange.source_ended()

    def next(self, step: dict[str, Any]) -> None:
        given = self.exchange.next_request(step.get("call", self.call))
        if isinstance(given, Step):
            assert given.value == step["gives"]
        elif given.HasField("frame"):
            kind = "decode_only" if given.frame.decode_only else "frame"
            assert f"{kind} {given.frame.frame_id}" == step["gives"]
        else:
            assert given.WhichOneof("request") == step["gives"]

    def call_ended(self, step: dict[str, Any]) -> None:
        error = None
        if step["error"]:
            error = getattr(errors, step["error"])("as the script says")
            error.retry_after = step.get("retry_after")
        self.exchange.ended(error, step.get("call", self.call))

    def seconds_to_retry(self, step: dict[str, Any]) -> None:
        assert self.exchange.seconds_to_retry() == close_to(step["gives"])

    def begin_again(self, step: dict[str, Any]) -> None:
        self.call = self.exchange.begin_again()
        assert self.call == step["gives"]

    def take(self, step: dict[str, Any]) -> None:
        what, _, which = step["gives"].partition(" ")
        if what == "error":
            with pytest.raises(errors.TilestreamError) as caught:
                self.exchange.take()
            assert type(caught.value).__name__ == which
            assert list(caught.value.unanswered) == step["unanswered"]
            assert list(caught.value.unsent) == step["unsent"]
            assert (caught.value.retry_after or 0) == step.get("retry_after", 0)
            return
        taken = self.exchange.take()
        if isinstance(taken, Step):
            assert taken.value == step["gives"]
        else:
            assert f"frame {taken.frame_id}" == step["gives"]

    def advance(self, step: dict[str, Any]) -> None:
        self.now += step["seconds"]

    def check(self, step: dict[str, Any]) -> None:
        for name, expected in step.items():
            if name == "seconds_to_heartbeat":
                assert self.exchange.seconds_to_heartbeat() == close_to(expected)
            elif name != "do":
                assert getattr(self.exchange, name) == expected, name


def close_to(seconds: float | None) -> Any:
    return None if seconds is None else pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("script", SCRIPTS)
def test_script(script):
    player = Player(script)
    for number, step in enumerate(script["steps"]):
        try:
            getattr(player, step["do"])(step)
        except BaseException as error:
            error.add_note(f"step {number}: {json.dumps(step)}")
            raise


def test_there_are_scripts():
    assert len(SCRIPTS) > 50


def test_recorded_scripts_are_current():
    assert exchange_scripts.recorded() == exchange_scripts.PATH.read_text(), (
        "python -m tools.exchange_scripts"
    )
