"""Record what becomes of sessions to which anything may happen: proto/testdata/exchange/random.json.

``python -m tools.exchange_scripts`` plays random events to the Python client's bookkeeping and writes down
what it does, so that clients in other languages are held to the same. Events are those of a server that keeps
its promises.
"""

from __future__ import annotations

import base64
import json
import random
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from tilestream_client import errors
from tilestream_client.exchange import Exchange, Step
from tilestream_client.reconnect import Reconnect
from tilestream_client.sources import Frame
from tilestream_client.v1 import segmentation_pb2 as pb

PATH = Path(__file__).resolve().parent.parent / "proto" / "testdata" / "exchange" / "random.json"
ABOUT = (
    "Random events, as the Python client's bookkeeping answers them; tools/exchange_scripts.py records it."
)
SCRIPTS, EVENTS = 16, 90
POLICY = {"timeout": 60, "first_delay": 0.125, "max_delay": 4.0, "jitter": 0.5}  # binary fractions are exact
ERRORS = ("ConnectionLost", "ServerBusy", "ServerDraining", "ServerError")
TICK = 0.25  # seconds


class Recorder:
    """One session and its server; every event is a method, and says what came of it in ``steps``."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.steps: list[dict[str, Any]] = []
        self.now = 100.0
        policy = Reconnect(POLICY["timeout"], POLICY["first_delay"], POLICY["max_delay"])
        self.exchange = Exchange(pb.SessionConfig(), lambda: self.now, policy)
        self.exchange._back_off._uniform = lambda low, high: low + (high - low) * POLICY["jitter"]
        self.accepted: list[int] = []  # by the server, in this session
        self.answered = -1  # the last frame whose answer the client has
        self.session = 0
        self.in_flight = self.random.randint(1, 4)

    def step(self, do: str, **more: Any) -> None:
        """Write one down."""
        self.steps.append({"do": do, **more})

    def run(self) -> list[dict[str, Any]]:
        """All events, then a check of what is known from outside."""
        self.connect()
        events = (self.offer, self.next, self.next, self.answer, self.take, self.tick)
        for _ in range(EVENTS):
            chance = self.random.random()
            if chance < 0.04:
                self.lose()
                self.connect()
            elif chance < 0.05:
                self.drain()
            else:
                self.random.choice(events)()
        names = ("wants_frame", "window", "frames_sent", "reconnects", "resumes")
        self.step("check", **{name: getattr(self.exchange, name) for name in names})
        return self.steps

    def connect(self) -> None:
        """The config goes out, and the server opens the session: the one before, or a new one."""
        config = self.exchange.opening_request().config
        token = base64.b64encode(config.resume_token).decode() or None
        last = config.last_result_id if config.HasField("last_result_id") else None
        self.step("opening", resume_token=token, last_result_id=last)
        resumed = bool(token) and self.random.random() < 0.6
        if not resumed:
            self.session += 1
            self.accepted = []
        started: dict[str, Any] = {
            "resumeToken": base64.b64encode(b"%d" % self.session).decode(),
            "config": {"framesInFlight": self.in_flight, "queuePolicy": "QUEUE_POLICY_WAIT"},
            "limits": {"idleTimeoutMs": 3000},
            "resumed": resumed,
        }
        if resumed and self.accepted:
            started["lastFrameId"] = str(self.accepted[-1])
        self.receive({"sessionStarted": started})

    def receive(self, response: dict[str, Any]) -> None:
        """The server says something."""
        self.exchange.receive(
            json_format.ParseDict(response, pb.StreamSegmentResponse()), self.exchange._call
        )
        self.step("receive", response=response)

    def offer(self) -> None:
        """The caller has a frame, if one is wanted."""
        wanted = self.exchange.wants_frame
        self.step("check", wants_frame=wanted)
        if wanted:
            self.exchange.offer(Frame(data=b"x"), b"x")
            self.step("offer")

    def next(self) -> None:
        """What is sent now arrives."""
        given = self.exchange.next_request(self.exchange._call)
        if isinstance(given, Step):
            self.step("next", gives=given.value)
        elif given.HasField("frame"):
            self.accepted.append(given.frame.frame_id)
            self.step("next", gives=f"frame {given.frame.frame_id}")
        else:
            self.step("next", gives="heartbeat")

    def answer(self) -> None:
        """The server answers the next frame that it has."""
        frame_id = next((one for one in self.accepted if one > self.answered), None)
        if frame_id is not None:
            self.answered = frame_id
            result = pb.FrameResult(frame_id=frame_id, status=pb.FRAME_STATUS_DROPPED)
            self.exchange.receive(pb.StreamSegmentResponse(result=result), self.exchange._call)
            self.step("answer", frames=[frame_id])

    def take(self) -> None:
        """The caller asks for a result."""
        taken = self.exchange.take()
        self.step("take", gives=taken.value if isinstance(taken, Step) else f"frame {taken.frame_id}")

    def tick(self) -> None:
        """Time passes."""
        self.now += TICK
        self.step("advance", seconds=TICK)
        self.step("check", seconds_to_heartbeat=self.exchange.seconds_to_heartbeat())

    def drain(self) -> None:
        """The server is going to end the stream, does so once all is answered, and another one is opened."""
        self.receive({"draining": {"reason": "DRAIN_REASON_MAX_AGE", "retryDelayMs": 500}})
        self.next()
        while self.accepted and self.answered < self.accepted[-1]:
            self.answer()
        self.lose(error=None)
        self.connect()

    def lose(self, error: str | None = "") -> None:
        """The stream breaks off, with the latest frames; attempts to open it again may fail as well."""
        if error == "":
            error = self.random.choice(ERRORS)
            kept = self.random.randint(0, len(self.accepted))
            self.accepted = [one for i, one in enumerate(self.accepted) if one <= self.answered or i < kept]
        self.end(error)
        while self.random.random() < 0.3:
            self.end("ConnectionFailed")

    def end(self, error: str | None) -> None:
        """The call is over; the next one is made when it is time."""
        delay = self.random.choice((0.0, 0.5)) if error in ("ServerBusy", "ServerDraining") else 0.0
        raised = None
        if error:
            raised = getattr(errors, error)("as the script says")
            raised.retry_after = delay
        self.exchange.ended(raised, self.exchange._call)
        self.step("call_ended", error=error, retry_after=delay)
        wait = self.exchange.seconds_to_retry()
        self.step("seconds_to_retry", gives=wait)
        assert wait is not None, "the attempts to come back ended"
        self.now += wait
        self.step("advance", seconds=wait)
        self.step("begin_again", gives=self.exchange.begin_again())


def recorded() -> str:
    """The file's text."""
    lines = ["{", f'  "about": {json.dumps(ABOUT)},', '  "scripts": [']
    for seed in range(SCRIPTS):
        steps = ",\n".join(f"        {json.dumps(step)}" for step in Recorder(seed).run())
        lines += [
            "    {",
            f'      "name": "random {seed}",',
            f'      "reconnect": {json.dumps(POLICY)},',
            f'      "steps": [\n{steps}\n      ]',
            "    }," if seed < SCRIPTS - 1 else "    }",
        ]
    return "\n".join([*lines, "  ]", "}"]) + "\n"


if __name__ == "__main__":
    PATH.write_text(recorded())
    sys.exit(0)
