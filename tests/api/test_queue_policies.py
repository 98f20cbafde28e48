"""What happens to frames that come faster than they are computed."""

import asyncio
import gc
import threading

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import Stream, running
from support.waiting import until
from tilestream.messages import Picture
from tilestream.v1 import segmentation_pb2 as pb

OK, DROPPED = pb.FRAME_STATUS_OK, pb.FRAME_STATUS_DROPPED


async def send_while_busy(r, stream: Stream, count: int) -> None:
    """Frame 0 is in the engine when the others are sent, one after the other."""
    await stream.frame(0, jpeg(0))
    await until(r.engine.stepping.is_set)
    for i in range(1, count):
        await stream.frame(i, jpeg(i))


def received(r) -> int:
    (session,) = r.server.registry
    return session.stats.received


async def test_wait_holds_the_client_back_and_drops_nothing():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        stream = await r.open(queue_policy="QUEUE_POLICY_WAIT", frames_in_flight=2)
        await send_while_busy(r, stream, 6)
        await until(lambda: r.requests_read() == 1 + 3)  # with the config
        assert received(r) == 2, "the third has to wait for the first answer"
        gate.set()
        results = [await stream.result() for _ in range(6)]
        assert [(x.frame_id, x.status) for x in results] == [(i, OK) for i in range(6)]


async def test_drop_oldest_keeps_the_newest():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        stream = await r.open(queue_policy="QUEUE_POLICY_DROP_OLDEST", frames_in_flight=3)
        await send_while_busy(r, stream, 6)
        await until(lambda: received(r) == 6)
        gate.set()
        results = [await stream.result() for _ in range(6)]
        assert [x.frame_id for x in results] == list(range(6))
        assert [x.status for x in results] == [OK, DROPPED, DROPPED, DROPPED, OK, OK]
        assert {x.drop_reason for x in results if x.status == DROPPED} == {pb.DROP_REASON_QUEUE_FULL}
        assert results[1].detail == "3 frames in flight"
        assert results[1].times.total_us > 0


async def test_latest_only_computes_the_one_before_and_the_last():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        stream = await r.open(queue_policy="QUEUE_POLICY_LATEST_ONLY", frames_in_flight=4)
        await send_while_busy(r, stream, 6)
        await until(lambda: received(r) == 6)
        gate.set()
        results = [await stream.result() for _ in range(6)]
        assert [x.status for x in results] == [OK, DROPPED, DROPPED, DROPPED, DROPPED, OK]
        assert {x.drop_reason for x in results if x.status == DROPPED} == {pb.DROP_REASON_SUPERSEDED}


async def test_dropping_needs_two_in_flight_and_says_so():
    async with running() as r:
        stream = await r.open(queue_policy="QUEUE_POLICY_LATEST_ONLY", frames_in_flight=1)
        assert stream.started.config.frames_in_flight == 2


async def test_a_client_that_does_not_read_is_bounded():
    """Masks pile up in the client's flow-control window, then the server stops taking frames."""
    async with running(resume_ttl=0) as r:
        stream = await r.open(
            queue_policy="QUEUE_POLICY_DROP_OLDEST",
            mask_encoding="MASK_ENCODING_RAW",
            output_size=pb.Size(width=1000, height=1000),
        )
        (session,) = r.server.registry

        async def send_for_ever():
            for i in range(100_000):
                await stream.frame(i, jpeg())

        sending = asyncio.ensure_future(send_for_ever())
        other, exchanges, taken = await r.open(), 0, -1
        while taken != session.stats.received:  # until it takes none while it serves another client
            taken = session.stats.received
            for _ in range(20):
                await other.frame(exchanges, jpeg())
                assert (await other.result()).status == OK
                exchanges += 1
        assert not sending.done()
        assert r.requests_read() == (1 + taken + 1) + (1 + exchanges), "one more was read, and waits"
        sending.cancel()
        stream.call.cancel()
        await until(lambda: len(r.server.registry) == 1)


def pictures() -> dict[int, Picture]:
    """All that are alive, by identity."""
    return {id(thing): thing for thing in gc.get_objects() if type(thing) is Picture}


async def test_images_of_superseded_frames_are_let_go():
    """A client that does not read must not make the server keep what it decoded."""
    others = pictures()  # of tests before this one
    async with running(FakeEngine(threading.Event()), resume_ttl=0) as r:
        stream = await r.open(queue_policy="QUEUE_POLICY_LATEST_ONLY")
        await send_while_busy(r, stream, 12)
        await until(lambda: received(r) == 12)
        await until(lambda: len(pictures().keys() - others.keys()) <= 3)
