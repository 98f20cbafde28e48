"""Any sequence of requests: an orderly end, answers in order, and a server that goes on."""

import asyncio
import contextlib
import logging
import os

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.frames import jpeg
from support.server import Running, running
from support.waiting import until
from tilestream.v1 import segmentation_pb2 as pb

ORDERLY = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
DATA = [jpeg(3), jpeg(5, 16, 16), jpeg(1)[:-7], b"", b"\xff\xd8", b"junk", jpeg(2, 700, 8), b"\xff" * 30_000]

sizes = st.builds(pb.Size, width=st.integers(0, 700), height=st.integers(0, 700))
configs = st.builds(
    pb.SessionConfig,
    camera_id=st.text(max_size=10),
    model=st.sampled_from(["", "fake", "other", "nosuch"]),
    mask_encoding=st.integers(0, 5),
    queue_policy=st.integers(0, 4),
    frames_in_flight=st.integers(0, 10),
    output_size=st.none() | sizes,
    compute_size=st.none() | sizes,
    block_budget=st.sampled_from([0.0, 0.5, 1.0, -1.0, float("nan")]),
    resume_token=st.binary(max_size=8),
    include_bins=st.booleans(),
    include_confidence=st.booleans(),
)
good_configs = st.builds(pb.SessionConfig, queue_policy=st.integers(0, 3), mask_encoding=st.integers(0, 3))
frames = st.builds(
    pb.Frame, frame_id=st.integers(0, 12), data=st.sampled_from(DATA), force_key_frame=st.booleans()
)


def request(**fields):
    return pb.StreamSegmentRequest(**fields).SerializeToString()


starts = st.one_of(good_configs, good_configs, configs).map(lambda config: request(config=config))
others = st.one_of(
    frames.map(lambda frame: request(frame=frame)),
    frames.map(lambda frame: request(frame=frame)),
    configs.map(lambda config: request(config=config)),
    st.just(request(heartbeat=pb.Heartbeat())),
    st.just(b""),
    st.binary(max_size=20),
)
sequences = st.tuples(
    st.lists(others, max_size=1), st.lists(starts, max_size=1), st.lists(others, max_size=12)
).map(lambda parts: [*(parts[0] if not parts[1] else []), *parts[1], *parts[2]])


class NoErrors(logging.Handler):
    """Collects what the server logs as its own fault."""

    def __enter__(self):
        self.messages = []
        self.setLevel(logging.ERROR)
        logging.getLogger("tilestream").addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger("tilestream").removeHandler(self)

    def emit(self, record):
        self.messages.append(f"{record.getMessage()} {record.exc_info}")


async def play(r: Running, sequence: list[bytes], cancel_after: int | None) -> None:
    call = r.channel.stream_stream("/tilestream.v1.SegmentationService/StreamSegment")()

    async def send():
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            for number, data in enumerate(sequence):
                if number == cancel_after:
                    call.cancel()
                    return
                await call.write(data)
            await call.done_writing()

    sending = asyncio.ensure_future(send())
    answered = []
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
        while (data := await call.read()) is not grpc.aio.EOF:
            response = pb.StreamSegmentResponse.FromString(data)
            if response.HasField("result"):
                answered.append(response.result.frame_id)
    await sending
    code, details = await call.code(), await call.details() or ""
    assert answered == sorted(set(answered))
    if code is grpc.StatusCode.OK:
        sent = [pb.StreamSegmentRequest.FromString(data) for data in sequence]
        assert answered == [one.frame.frame_id for one in sent if one.HasField("frame")]
    elif code is grpc.StatusCode.INTERNAL:  # grpc.aio's client: its own write met the end of the stream
        assert details == "Internal error from Core"
    else:
        assert code in ORDERLY or (code is grpc.StatusCode.CANCELLED and cancel_after is not None), code
    assert "Traceback" not in details


plays_at_once = st.lists(st.tuples(sequences, st.none() | st.integers(0, 8)), min_size=1, max_size=5)


@given(plays_at_once)
@settings(max_examples=30)
def test_any_sequence_of_requests(plays):
    play_all(plays)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_campaign_of_sequences():
    """TILESTREAM_FUZZ_SEQUENCES=20000 pytest --long tests/api/test_fuzz_requests.py: 20 minutes."""
    wanted, played = int(os.environ.get("TILESTREAM_FUZZ_SEQUENCES", "2000")), 0

    @given(plays_at_once)
    @settings(max_examples=wanted, database=None)
    def campaign(plays):
        nonlocal played
        if played < wanted:
            play_all(plays)
            played += len(plays)

    campaign()
    assert played >= wanted


def play_all(plays):
    async def run():
        limits = {"max_frame_pixels": 400_000, "max_frame_side": 650, "max_frame_bytes": 23_000}
        limits["max_message_bytes"] = 25_000
        async with running(max_sessions=4, resume_ttl=0.05, **limits) as r:
            await asyncio.gather(*(play(r, sequence, cancel) for sequence, cancel in plays))
            await until(lambda: not (len(r.server.registry) or r.engine.open_sessions))
            stream = await r.open()
            await stream.frame(1, jpeg())
            assert (await stream.result()).status == pb.FRAME_STATUS_OK

    with NoErrors() as log:
        asyncio.run(run())
    assert not log.messages
