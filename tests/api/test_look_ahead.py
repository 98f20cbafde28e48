"""Sessions whose labels may wait for later frames: what is in force, and that every frame gets its answer."""

import pytest

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import running
from tilestream.v1 import segmentation_pb2 as pb


def engine(later: int) -> FakeEngine:
    made = FakeEngine()
    made.later = later
    return made


@pytest.mark.parametrize(
    ("asked", "allowed", "in_force", "in_flight"),
    [(500, 1.0, 500, 17), (5000, 0.25, 250, 10), (0, 1.0, 0, 2)],
)
async def test_the_delay_in_force_is_told_and_so_many_more_frames_may_be_in_flight(
    asked, allowed, in_force, in_flight
):
    async with running(engine(2), max_delay=allowed) as r:
        stream = await r.open(max_delay_ms=asked)
        assert stream.started.config.max_delay_ms == in_force
        assert stream.started.config.frames_in_flight == in_flight
        assert stream.started.limits.max_delay_ms == 1000 * allowed
        info = await r.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert info.limits.max_delay_ms == 1000 * allowed
        listed = await r.stub.ListSessions(pb.ListSessionsRequest())
        assert [session.max_delay_ms for session in listed.sessions] == [in_force]


async def test_a_server_that_does_not_look_ahead_says_so():
    async with running() as r:
        stream = await r.open(max_delay_ms=500)
        assert stream.started.config.max_delay_ms == stream.started.limits.max_delay_ms == 0
        assert stream.started.config.frames_in_flight == 2


async def test_half_closing_answers_what_waits():
    async with running(engine(3), max_delay=10) as r:
        stream = await r.open(max_delay_ms=10_000)
        for number in range(5):
            await stream.frame(number, jpeg(number))
        assert [(await stream.result()).frame_id for _ in range(2)] == [0, 1]
        await stream.done()
        rest = [response.result for response in await stream.rest() if response.HasField("result")]
        assert [result.frame_id for result in rest] == [2, 3, 4]
        assert all(result.status == pb.FRAME_STATUS_OK for result in rest)


async def test_a_camera_that_stalls_gets_its_answers_after_the_delay():
    async with running(engine(3)) as r:
        stream = await r.open(max_delay_ms=50)
        for number in range(3):
            await stream.frame(number, jpeg(number))
        results = [await stream.result() for _ in range(3)]  # no further frame comes
        assert [result.frame_id for result in results] == [0, 1, 2]
        stream.call.cancel()


async def test_frames_that_wait_are_answered_where_the_engine_fails():
    async with running(engine(3), max_delay=10) as r:
        stream = await r.open(max_delay_ms=10_000, frames_in_flight=8)

        def fail(plan):
            if any(frame.frame_id == 2 for frame, _ in plan.frames):
                raise RuntimeError("secret detail")

        r.engine.fail = fail
        for number in range(3):
            await stream.frame(number, jpeg(number))
        results = [await stream.result() for _ in range(3)]
        assert [result.frame_id for result in results] == [0, 1, 2]
        assert all(result.drop_reason == pb.DROP_REASON_ENGINE_ERROR for result in results)
        assert not any("secret" in result.detail for result in results)
        stream.call.cancel()


async def test_a_lost_stream_gets_all_answers_after_its_resume():
    async with running(engine(2), max_delay=10) as r:
        stream = await r.open(max_delay_ms=10_000, frames_in_flight=8)
        for number in range(4):
            await stream.frame(number, jpeg(number))
        assert [(await stream.result()).frame_id for _ in range(2)] == [0, 1]
        stream.call.cancel()
        token = stream.started.resume_token
        again = await r.open(max_delay_ms=10_000, frames_in_flight=8, resume_token=token, last_result_id=1)
        assert again.started.resumed
        for number in (4, 5):
            await again.frame(number, jpeg(number))
        assert [(await again.result()).frame_id for _ in range(2)] == [2, 3]
        await again.done()
        rest = [response.result for response in await again.rest() if response.HasField("result")]
        assert [result.frame_id for result in rest] == [4, 5]
