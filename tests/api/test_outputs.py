"""What clients get beside masks, or instead of them, over a real socket."""

import asyncio
import itertools
import threading

import cv2
import grpc
import numpy as np
import pytest

from support.clock import ManualClock
from support.coco import decoded
from support.fake_engine import STEP, FakeEngine
from support.frames import decode_rle, encode, jpeg
from support.polygons import inside
from support.server import Running, Stream, config, refused, running
from support.waiting import until
from tilestream.sessions.session import SessionState
from tilestream.v1 import segmentation_pb2 as pb

LEFT = pb.Region(name="left", points=[pb.Point(x=x, y=y) for x, y in ((0, 0), (0.5, 0), (0.5, 1), (0, 1))])
BEGAN, ENDED = pb.EVENT_KIND_BEGAN, pb.EVENT_KIND_ENDED
EVERYTHING = pb.Outputs(areas=True, instances=True, polygons=True, coco_rle=True, polygon_tolerance=0.01)


def scene(labels: np.ndarray) -> bytes:
    """A frame that the fake engine labels so."""
    return encode((labels * STEP)[..., None].repeat(3, 2), 100, sampling=0x111111)


def discs() -> np.ndarray:
    """Label 0 with two discs of 4 and one of 7; uint8 [96, 160]."""
    labels = np.zeros((96, 160), np.uint8)
    for place, radius, label in (((30, 40), 20, 4), ((120, 30), 12, 4), ((100, 70), 15, 7)):
        cv2.circle(labels, place, radius, label, -1)
    return labels


@pytest.mark.parametrize("encoding", [pb.MASK_ENCODING_RLE, pb.MASK_ENCODING_RAW])
@pytest.mark.parametrize("runs", [False, True])
async def test_findings_are_those_of_the_mask_that_comes_with_them(runs, encoding):
    async with running(FakeEngine(runs=runs)) as r:
        stream = await r.open(mask_encoding=encoding, outputs=EVERYTHING, regions=[LEFT])
        await stream.frame(0, scene(discs()))
        result = await stream.result()
    width, height, data = result.mask.width, result.mask.height, result.mask.data
    is_rle = encoding == pb.MASK_ENCODING_RLE
    labels = (
        decode_rle(data, width, height) if is_rle else np.frombuffer(data, np.uint8).reshape(height, width)
    )
    np.testing.assert_array_equal(labels, discs())
    assert {area.value: area.pixels for area in result.areas} == {v: (labels == v).sum() for v in (0, 4, 7)}
    assert [area.share for area in result.areas] == pytest.approx(
        [(labels == v).mean() for v in (0, 4, 7)], rel=1e-6
    )
    assert [each.value for each in result.instances] == [0, 4, 7, 4]
    again = np.full(labels.shape, -1)
    for each in result.instances:
        mask = inside([polygon.points for polygon in each.polygons], *labels.shape)
        np.testing.assert_array_equal(mask, decoded(each.coco_rle, *labels.shape))
        assert (labels[mask] == each.value).all() and mask.sum() == each.pixels
        again[mask] = each.value
    np.testing.assert_array_equal(again, labels)
    assert result.instances[1].box == pb.Box(x=10, y=20, width=41, height=41)
    assert result.instances[1].centroid.x == pytest.approx(30.5 / 160)
    (left,) = result.regions
    assert left.name == "left" and left.pixels == 96 * 80
    assert {area.value: area.pixels for area in left.areas} == {
        v: (labels[:, :80] == v).sum() for v in np.unique(labels[:, :80])
    }


async def test_everything_is_at_the_size_of_the_mask():
    async with running() as r:
        wishes = pb.Outputs(areas=True, instances=True, min_instance_pixels=1)
        stream = await r.open(output_size=pb.Size(width=320, height=192), outputs=wishes)
        await stream.frame(0, scene(discs()))
        result = await stream.result()
        assert sum(area.pixels for area in result.areas) == 320 * 192
        assert result.instances[1].box.width == 82


async def test_nothing_is_sent_that_nobody_asked_for():
    async with running() as r:
        stream = await r.open()
        await stream.frame(0, scene(discs()))
        result = await stream.result()
        assert not (result.areas or result.instances or result.regions or result.events or result.detail)
        assert not stream.started.config.HasField("outputs")


async def test_a_result_of_areas_alone_is_under_200_bytes():
    street = np.repeat(np.arange(9, dtype=np.uint8), 80)[:, None].repeat(1280, 1)  # 9 classes at 1280x720
    async with running(max_frame_pixels=1280 * 720) as r:
        stream = await r.open(outputs=pb.Outputs(no_mask=True, areas=True))
        await stream.frame(1 << 20, scene(street), capture_time_us=1_795_000_000_000_000)
        result = await stream.result()
        assert result.status == pb.FRAME_STATUS_OK and not result.HasField("mask")
        assert [area.pixels for area in result.areas] == [80 * 1280] * 9
        assert result.ByteSize() < 200


async def test_the_config_in_force_has_every_default():
    rule = pb.Rule(name="r", classes=[7, 4, 7], region="left", above_share=0.25, for_ms=500)
    async with running() as r:
        wishes = pb.Outputs(instances=True, instance_classes=[7, 4])
        started = (await r.open(outputs=wishes, regions=[LEFT], rules=[rule])).started
        assert started.config.outputs == pb.Outputs(
            instances=True, instance_classes=[4, 7], min_instance_pixels=64, polygon_tolerance=1.0
        )
        assert list(started.config.regions) == [LEFT]
        assert started.config.rules[0] == pb.Rule(
            name="r", classes=[4, 7], region="left", above_share=0.25, for_ms=500
        )


async def test_noise_makes_no_megabyte_and_that_is_said():
    noise = np.random.default_rng(0).integers(0, 11, (360, 640)).astype(np.uint8)
    async with running() as r:
        wishes = pb.Outputs(areas=True, instances=True, polygons=True, min_instance_pixels=1, no_mask=True)
        stream = await r.open(outputs=wishes)
        await stream.frame(0, scene(noise))
        result = await stream.result()
        assert result.status == pb.FRAME_STATUS_OK and len(result.instances) == 256
        assert result.ByteSize() < 200_000
        assert result.detail.startswith("left out: ") and "min_instance_pixels" in result.detail


# Events

PERSON = pb.Rule(name="person", classes=[3], above_share=0.5, for_ms=100)


async def events_of(stream: Stream) -> tuple[int, list[tuple[str, int, int]]]:
    result = await stream.result()
    return result.frame_id, [(event.rule, event.kind, event.time_us) for event in result.events]


async def test_events_begin_and_end_by_capture_time():
    async with running() as r:
        stream = await r.open(rules=[PERSON], outputs=pb.Outputs(no_mask=True))
        told = []
        for frame_id, (ms, label) in enumerate(
            [(1000, 0), (1050, 3), (1100, 3), (1150, 3), (1200, 0), (1300, 0)]
        ):
            await stream.frame(frame_id, jpeg(label), capture_time_us=ms * 1000)
            told.append((await events_of(stream))[1])
        assert told == [[], [], [], [("person", BEGAN, 1_050_000)], [], [("person", ENDED, 1_200_000)]]


async def test_without_capture_times_it_goes_by_arrival():
    clock = ManualClock()
    async with running(clock=clock) as r:
        stream = await r.open(rules=[PERSON])
        await stream.frame(0, jpeg(3))
        assert (await events_of(stream))[1] == []
        clock.advance(0.2)
        await stream.frame(1, jpeg(3))
        ((rule, kind, began),) = (await events_of(stream))[1]
        assert (rule, kind) == ("person", BEGAN)
        clock.advance(0.1)
        await stream.frame(2, jpeg(0))
        await events_of(stream)
        clock.advance(0.1)
        await stream.frame(3, jpeg(0))
        ((_, kind, ended),) = (await events_of(stream))[1]
        assert kind == ENDED and ended - began == pytest.approx(300_000, abs=2)


async def test_frames_without_labels_neither_end_an_event_nor_begin_one():
    async with running() as r:
        stream = await r.open(rules=[PERSON])
        for frame_id, data in enumerate([jpeg(3), b"no jpeg", jpeg(3), b"no jpeg", jpeg(3)]):
            await stream.frame(frame_id, data, capture_time_us=(frame_id + 1) * 60_000)
        told = [await events_of(stream) for _ in range(5)]
        assert told == [(0, []), (1, []), (2, [("person", BEGAN, 60_000)]), (3, []), (4, [])]


async def test_dropped_frames_neither_end_an_event_nor_delay_it():
    async with running() as r:
        stream = await r.open(rules=[PERSON])

        def fail(plan):
            if any(frame.frame_id in (1, 3) for frame, _ in plan.frames):
                raise RuntimeError

        r.engine.fail = fail
        told = []
        for frame_id in range(5):
            await stream.frame(frame_id, jpeg(3), capture_time_us=(frame_id + 1) * 60_000)
            told.append(await events_of(stream))
        assert [events for _, events in told] == [[], [], [("person", BEGAN, 60_000)], [], []]


async def test_a_server_that_drains_tells_what_its_last_frames_bring():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        stream = await r.open(rules=[PERSON])
        for frame_id in range(2):
            await stream.frame(frame_id, jpeg(3), capture_time_us=(frame_id + 1) * 100_000)
        await until(r.engine.stepping.is_set)
        (session,) = r.server.registry
        await until(lambda: session.stats.received == 2)
        stopping = asyncio.ensure_future(r.server.stop())
        assert (await stream.receive()).HasField("draining")
        gate.set()
        assert [await events_of(stream) for _ in range(2)] == [(0, []), (1, [("person", BEGAN, 100_000)])]
        await stopping


async def lose(r: Running, stream: Stream) -> None:
    stream.call.cancel()
    await until(lambda: [session.state for session in r.server.registry] == [SessionState.SUSPENDED])


async def test_what_holds_outlives_a_lost_stream():
    async with running() as r:
        first = await r.open(rules=[PERSON])
        for frame_id, ms in ((0, 1000), (1, 1060)):
            await first.frame(frame_id, jpeg(3), capture_time_us=ms * 1000)
            await first.result()
        await lose(r, first)
        second = await r.open(rules=[PERSON], resume_token=first.started.resume_token, last_result_id=1)
        assert second.started.resumed
        await second.frame(2, jpeg(3), capture_time_us=1_100_000)
        assert await events_of(second) == (2, [("person", BEGAN, 1_000_000)])
        await lose(r, second)
        third = await r.open(rules=[PERSON], resume_token=first.started.resume_token, last_result_id=1)
        assert await events_of(third) == (2, [("person", BEGAN, 1_000_000)])  # the same answer, sent again
        await third.frame(3, jpeg(3), capture_time_us=1_200_000)
        assert await events_of(third) == (3, [])  # and not told twice


async def test_other_rules_are_another_session():
    async with running() as r:
        first = await r.open(rules=[PERSON])
        await lose(r, first)
        fields = {"resume_token": first.started.resume_token, "rules": [pb.Rule(name="x", classes=[1])]}
        stream = await refused(r, config(**fields))
        code, details = await stream.status()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "config.rules" in details and "differs from the session that is resumed" in details


async def test_events_are_in_frame_order_whatever_is_encoded_first(monkeypatch):
    """Answers become known out of order: rules are asked in the order of the frames all the same."""
    from tilestream.results.compute import ResultMaker

    find, turn = ResultMaker.find, itertools.count()
    second = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow_first(self, runs):
        if next(turn) == 0:
            asyncio.run_coroutine_threadsafe(second.wait(), loop).result(60)
        else:
            loop.call_soon_threadsafe(second.set)
        return find(self, runs)

    monkeypatch.setattr(ResultMaker, "find", slow_first)
    async with running(media_threads=2) as r:
        stream = await r.open(rules=[pb.Rule(name="now", classes=[3])], frames_in_flight=4)
        await stream.frame(0, jpeg(3), capture_time_us=10)
        await stream.frame(1, jpeg(0), capture_time_us=20)
        assert await events_of(stream) == (0, [("now", BEGAN, 10)])
        assert await events_of(stream) == (1, [("now", ENDED, 20)])
