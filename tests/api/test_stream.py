"""What a well-behaved client sees."""

import asyncio
import itertools
import threading

import cv2
import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake_engine import FakeEngine, fake_model
from support.frames import decode_png, decode_rle, encode, jpeg
from support.server import running
from support.waiting import until
from tilestream.v1 import segmentation_pb2 as pb

PALETTE = fake_model().palette


def stripes(width: int = 96, height: int = 48) -> np.ndarray:
    """Labels 0..11 in vertical stripes of 8 pixels."""
    return (np.arange(width) // 8 % 12).astype(np.uint8)[None, :].repeat(height, 0)


def stripes_jpeg() -> bytes:
    return encode((stripes() * 20)[..., None].repeat(3, 2), 100, sampling=0x111111)


async def test_session_started_says_what_is_in_force():
    async with running(max_frame_bytes=5000, idle_timeout=7.5) as r:
        stream = await r.open(camera_id="front")
        started = stream.started
        assert len(started.resume_token) >= 16
        assert not started.resumed and not started.HasField("last_frame_id")
        assert [c.name for c in started.model.classes] == list(fake_model().classes)
        assert started.model.classes[1].color == 0x14EB07
        assert started.model.is_default
        assert started.limits.max_frame_bytes == 5000 and started.limits.idle_timeout_ms == 7500
        assert started.config == pb.SessionConfig(
            camera_id="front",
            model="fake",
            mask_encoding=pb.MASK_ENCODING_PNG,
            frame_codec=pb.FRAME_CODEC_JPEG,
            queue_policy=pb.QUEUE_POLICY_WAIT,
            frames_in_flight=2,
            weight=1.0,
        )


async def test_two_sessions_have_different_ids_and_tokens():
    async with running() as r:
        one, two = (await r.open()).started, (await r.open()).started
        assert one.session_id != two.session_id and one.resume_token != two.resume_token


async def test_a_result_has_everything_that_was_asked_for():
    async with running() as r:
        stream = await r.open(include_bins=True, include_confidence=True)
        await stream.frame(0, jpeg(4, 130, 70), capture_time_us=123)
        result = await stream.result()
        assert (result.frame_id, result.capture_time_us, result.status) == (0, 123, pb.FRAME_STATUS_OK)
        assert result.drop_reason == result.invalid_reason == 0 and not result.detail
        assert np.all(decode_png(result.mask.data, PALETTE) == 4)
        assert (result.mask.width, result.mask.height) == (130, 70)
        confidence = cv2.imdecode(np.frombuffer(result.confidence.data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert confidence.shape == (70, 130) and np.all(confidence == 200)
        assert (result.bins.columns, result.bins.rows, result.bins.bin_size) == (3, 2, 64)
        assert (result.bins.width, result.bins.height, result.bins.units_per_bin) == (130, 70, 8)
        assert list(result.bins.units_computed) == [8] * 6 and list(result.bins.age) == [0] * 6
        assert (
            result.reuse.key_frame and result.reuse.units_computed == 48 and result.reuse.units_dropped == 0
        )
        assert result.reuse.block_budget == 1.0
        times = result.times
        parts = times.queue_us + times.decode_us + times.engine_us + times.encode_us
        assert 0 < parts <= times.total_us + 5


async def test_nothing_that_was_not_asked_for_is_sent():
    async with running() as r:
        stream = await r.open()
        await stream.frame(0, jpeg())
        result = await stream.result()
        assert not result.HasField("bins") and not result.HasField("confidence")


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("name", ["PNG", "RLE", "RAW"])
async def test_every_encoding_gives_the_same_labels(name, runs):
    async with running(FakeEngine(runs=runs)) as r:
        stream = await r.open(mask_encoding=f"MASK_ENCODING_{name}", include_confidence=True)
        await stream.frame(1, stripes_jpeg())
        result = await stream.result()
        mask = result.mask
        assert pb.MaskEncoding.Name(mask.encoding) == f"MASK_ENCODING_{name}"
        labels = {
            "PNG": lambda: decode_png(mask.data, PALETTE),
            "RLE": lambda: decode_rle(mask.data, mask.width, mask.height),
            "RAW": lambda: np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width),
        }[name]()
        assert np.array_equal(labels, stripes())
        wanted = pb.MASK_ENCODING_RAW if name == "RAW" else pb.MASK_ENCODING_PNG
        assert result.confidence.encoding == wanted


@pytest.mark.parametrize("runs", [False, True])
async def test_output_and_compute_sizes(runs):
    async with running(FakeEngine(runs=runs)) as r:
        stream = await r.open(
            output_size=pb.Size(width=192, height=24), compute_size=pb.Size(width=96, height=48),
            mask_encoding="MASK_ENCODING_RAW",
        )  # fmt: skip
        await stream.frame(1, stripes_jpeg())
        mask = (await stream.result()).mask
        labels = np.frombuffer(mask.data, np.uint8).reshape(24, 192)
        assert np.array_equal(labels, stripes().repeat(2, 1)[:24])


async def test_frames_larger_than_the_network_s_limit_are_computed_small_and_answered_large():
    async with running(max_compute_pixels=10_000) as r:
        stream = await r.open(mask_encoding="MASK_ENCODING_RAW")
        await stream.frame(1, jpeg(5, 640, 480))
        mask = (await stream.result()).mask
        assert (mask.width, mask.height) == (640, 480)
        assert np.all(np.frombuffer(mask.data, np.uint8) == 5)


async def test_the_frame_s_size_may_change():
    async with running() as r:
        stream = await r.open()
        for i, (width, height) in enumerate([(64, 48), (32, 80), (640, 360), (64, 48)]):
            await stream.frame(i, jpeg(i, width, height))
            result = await stream.result()
            assert (result.mask.width, result.mask.height) == (width, height)
            assert result.reuse.key_frame
            assert np.all(decode_png(result.mask.data, PALETTE) == i)


async def test_gaps_in_frame_ids_are_fine():
    async with running() as r:
        stream = await r.open()
        for frame_id in (0, 7, 2**63, 2**64 - 1):
            await stream.frame(frame_id, jpeg())
            assert (await stream.result()).frame_id == frame_id


async def test_half_close_answers_what_was_sent_and_ends_with_ok():
    async with running() as r:
        stream = await r.open(frames_in_flight=1)
        for i in range(6):
            await stream.frame(i, jpeg(i))
        await stream.done()
        results = await stream.results()
        assert [result.frame_id for result in results] == list(range(6))
        assert (await stream.status())[0] is grpc.StatusCode.OK


async def test_the_other_model_serves_who_asks_for_it():
    async with running() as r:
        stream = await r.open(model="other")
        assert stream.started.model.name == "other" and not stream.started.model.is_default
        assert next(iter(r.engine.open_sessions.values())).model == "other"


async def test_the_engine_forgets_sessions_that_ended():
    async with running(resume_ttl=0.1) as r:
        finished, cancelled = await r.open(), await r.open()
        assert len(r.engine.open_sessions) == 2
        await finished.done()
        await finished.rest()
        cancelled.call.cancel()
        await until(lambda: not (r.engine.open_sessions or len(r.server.registry)))


async def test_the_next_frame_is_decoded_while_one_is_computed():
    gate = threading.Event()
    async with running(FakeEngine(gate)) as r:
        stream = await r.open()
        await stream.frame(0, jpeg(0))
        await stream.frame(1, jpeg(1))
        waiting = r.server._engines._loops[0]._scheduler.waiting
        await until(lambda: r.engine.stepping.is_set() and waiting())  # frame 1, while 0 is in the engine
        assert len(r.engine.plans) == 1
        gate.set()
        assert [(await stream.result()).frame_id for _ in range(2)] == [0, 1]


async def test_frames_whose_labels_come_with_a_later_step_wait_for_them():
    engine = FakeEngine()
    engine.later = 2
    async with running(engine, resume_ttl=0) as r:
        stream = await r.open(frames_in_flight=4, max_delay_ms=1000)
        for i in range(5):
            await stream.frame(i, jpeg(i))
        results = [await stream.result() for _ in range(3)]
        value = r.server.metrics.registry.get_sample_value
        while value("tilestream_scheduler_lag_seconds_count") < 5:  # all have been computed
            await asyncio.sleep(0.005)
        (live,) = r.server._live_sessions._by_token.values()
        assert [ticket.frame_id for ticket in live.pipeline.inbox.unanswered()] == [3, 4]
        for i in (5, 6):
            await stream.frame(i, jpeg(i))
        results += [await stream.result() for _ in range(2)]
        assert [result.frame_id for result in results] == list(range(5))
        for result in results:
            assert np.all(decode_png(result.mask.data, PALETTE) == result.frame_id)
            assert result.times.engine_us > 0
        assert value("tilestream_step_sessions_sum") == value("tilestream_scheduler_lag_seconds_count") == 7
        stream.call.cancel()


async def test_a_failing_step_costs_its_frame_and_nothing_else():
    async with running(max_batch=1) as r:
        bad, good = await r.open(), await r.open()

        def fail(plan):
            if any((f.session_id, f.frame_id) == (bad.started.session_id, 1) for f, _ in plan.frames):
                raise RuntimeError("secret detail")

        r.engine.fail = fail
        for stream, i in itertools.product((bad, good), range(3)):
            await stream.frame(i, jpeg(i))
            result = await stream.result()
            if stream is bad and i == 1:
                assert result.status == pb.FRAME_STATUS_DROPPED
                assert result.drop_reason == pb.DROP_REASON_ENGINE_ERROR
                assert "secret" not in result.detail
            else:
                assert result.status == pb.FRAME_STATUS_OK


Sent = st.tuples(st.integers(0, 11), st.sampled_from(["good", "good", "good", "empty", "cut", "text"]))


@given(
    st.sampled_from(["WAIT", "DROP_OLDEST", "LATEST_ONLY"]),
    st.integers(1, 5),
    st.lists(st.lists(Sent, min_size=1, max_size=12), min_size=1, max_size=3),
)
@settings(max_examples=15)
def test_every_frame_is_answered_exactly_once_in_order(policy, in_flight, sessions):
    """Whatever is sent, by whomever, under any policy; and labels belong to their frame."""

    async def serve_one(r, frames):
        stream = await r.open(
            queue_policy=f"QUEUE_POLICY_{policy}",
            frames_in_flight=in_flight,
            mask_encoding="MASK_ENCODING_RAW",
        )

        async def send():
            for i, (label, kind) in enumerate(frames):
                good = jpeg(label)
                data = {"good": good, "empty": b"", "cut": good[:-9], "text": b"no image"}[kind]
                await stream.frame(3 * i, data)
            await stream.done()

        sending = asyncio.ensure_future(send())
        results = await stream.results()
        await sending
        assert (await stream.status())[0] is grpc.StatusCode.OK
        assert [result.frame_id for result in results] == [3 * i for i in range(len(frames))]
        for result, (label, kind) in zip(results, frames, strict=True):
            if result.status == pb.FRAME_STATUS_OK:
                assert kind == "good" and set(result.mask.data) == {label}
            elif result.status == pb.FRAME_STATUS_INVALID:
                assert kind != "good"
            else:
                assert policy != "WAIT"

    async def serve_all():
        async with running() as r:
            await asyncio.gather(*(serve_one(r, frames) for frames in sessions))

    asyncio.run(serve_all())
