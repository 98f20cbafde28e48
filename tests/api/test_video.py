"""Access units over the API: every one has its answer, in order, with the labels of its own picture."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from support.fake_engine import STEP, FakeEngine
from support.frames import encode
from support.server import config, frame, refused, running
from support.video import STRUCTURES, damaged, encode_clip, moving_images, plain_images, plain_label
from tilestream.v1 import segmentation_pb2 as pb

CODECS = {"h264": pb.FRAME_CODEC_H264, "h265": pb.FRAME_CODEC_H265}


def labels(result: pb.FrameResult) -> np.ndarray:
    return np.frombuffer(result.mask.data, np.uint8).reshape(result.mask.height, result.mask.width)


async def send_all(stream, units, first: int = 0) -> None:
    for number, unit in enumerate(units):
        await stream.frame(first + number, unit.data)
    await stream.done()


async def answers(stream, units) -> list[pb.FrameResult]:
    sending = asyncio.create_task(send_all(stream, units))
    results = await stream.results()
    await sending
    return results


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("structure", STRUCTURES)
async def test_every_unit_has_the_labels_of_its_own_picture(codec, structure):
    units = encode_clip(plain_images(30), codec, STRUCTURES[structure])
    async with running() as r:
        stream = await r.open(frame_codec=CODECS[codec], mask_encoding=pb.MASK_ENCODING_RAW)
        assert stream.started.config.frame_codec == CODECS[codec]
        results = await answers(stream, units)
        assert (await stream.status())[0] is grpc.StatusCode.OK
    assert [result.frame_id for result in results] == list(range(len(units)))
    assert {result.status for result in results} == {pb.FRAME_STATUS_OK}, [
        (x.frame_id, x.detail) for x in results if x.detail
    ]
    for unit, result in zip(units, results, strict=True):
        assert (labels(result) == plain_label(unit.shown)).mean() > 0.98


async def test_the_engine_gets_pictures_in_the_order_in_which_they_are_shown():
    units = encode_clip(plain_images(12), params=STRUCTURES["b-pictures"])
    async with running() as r:
        seen, ids = [], []

        def look(plan):
            seen.extend(round(frame.picture.pixels.mean() / STEP) for frame, _ in plan.frames)
            ids.extend(frame.frame_id for frame, _ in plan.frames)

        r.engine.fail = look
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264)
        await answers(stream, units)
    assert seen == [plain_label(number) for number in range(12)]
    assert ids == sorted(set(ids)), "the engine counts on ids that increase"


async def test_more_b_pictures_than_frames_in_flight_do_not_stop_the_stream():
    units = encode_clip(plain_images(40), params="bframes=7:b-pyramid=0:keyint=40")
    async with running() as r:
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264, frames_in_flight=1)
        results = await answers(stream, units)
    assert [result.frame_id for result in results] == list(range(40))
    assert all(result.status == pb.FRAME_STATUS_OK for result in results)


async def test_a_picture_that_is_shown_too_late_is_given_up_and_the_others_go_on():
    units = encode_clip(plain_images(40), params="bframes=16:b-pyramid=0:keyint=40")
    async with running() as r:
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264, frames_in_flight=1)
        results = await answers(stream, units)
    assert [result.frame_id for result in results] == list(range(40))
    wrong = [result for result in results if result.status != pb.FRAME_STATUS_OK]
    assert 0 < len(wrong) < 5
    assert all(result.invalid_reason == pb.INVALID_REASON_UNSUPPORTED for result in wrong)
    assert all("encode with fewer B pictures" in result.detail for result in wrong)


@pytest.mark.parametrize("codec", CODECS)
async def test_who_joins_late_is_told_to_wait_for_a_key_unit(codec):
    units = encode_clip(plain_images(25), codec)[4:]
    async with running() as r:
        stream = await r.open(frame_codec=CODECS[codec])
        results = await answers(stream, units)
    early, late = results[:6], results[6:]
    assert {result.invalid_reason for result in early} == {pb.INVALID_REASON_NO_KEY_UNIT}
    assert all("no key unit has come yet" in result.detail for result in early)
    assert all(result.status == pb.FRAME_STATUS_OK for result in late)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("what", ["lost", "cut off", "too large"])
async def test_after_a_bad_unit_the_stream_goes_on_at_the_next_key_unit(codec, what):
    units = [unit.data for unit in encode_clip(moving_images(30), codec)]
    reason = pb.INVALID_REASON_CORRUPT
    if what == "lost":
        del units[13]
        reason = pb.INVALID_REASON_NO_KEY_UNIT if codec == "h264" else reason
    elif what == "cut off":
        units[13] = units[13][: len(units[13]) * 2 // 3]
    else:
        units[13] += b"\0\0\1\x0c" + b"\xff" * (1 << 20)
        reason = pb.INVALID_REASON_TOO_MANY_BYTES
    async with running(max_frame_bytes=1 << 20) as r:
        stream = await r.open(frame_codec=CODECS[codec])
        for number, data in enumerate(units):
            await stream.frame(number, data)
        await stream.done()
        results = await stream.results()
    bad = [result for result in results if result.status != pb.FRAME_STATUS_OK]
    assert [result.frame_id for result in bad] == list(range(13, 19 if what == "lost" else 20))
    assert bad[0].invalid_reason == reason
    assert {result.invalid_reason for result in bad[1:]} == {pb.INVALID_REASON_NO_KEY_UNIT}
    assert "none since frame 13" in bad[1].detail


async def test_damage_within_a_unit_is_found():
    units = [unit.data for unit in encode_clip(moving_images(20), params=f"{STRUCTURES['closed']}:cabac=1")]
    units[13] = damaged(units[13])
    async with running() as r:
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264)
        for number, data in enumerate(units):
            await stream.frame(number, data)
        await stream.done()
        results = await stream.results()
    assert results[12].status == pb.FRAME_STATUS_OK
    assert results[13].invalid_reason == pb.INVALID_REASON_CORRUPT


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "EMPTY"), (b"\0\0\1\x09\x10", "EMPTY"), (encode(plain_images(1)[0]), "NOT_JPEG"),
     (b"\0\0\0\5\x65\x88\x84\0\x10", "NOT_JPEG"), (b"\0\0\1\x65" * 600, "TOO_COSTLY"),
     (b"\0\0\1\x67\x64", "CORRUPT"), (b"\0\0\1\x65\x88\x84\0\x10", "NO_KEY_UNIT")],
)  # fmt: skip
async def test_what_is_no_access_unit_is_invalid_with_its_reason(data, reason):
    async with running() as r:
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264)
        await stream.frame(0, data)
        result = await stream.result()
    assert pb.InvalidReason.Name(result.invalid_reason) == f"INVALID_REASON_{reason}", result.detail


async def test_parameter_sets_may_come_by_themselves():
    first = encode_clip(plain_images(1))[0].data
    sets, picture = first[: first.rindex(b"\0\0\1\x65")], first[first.rindex(b"\0\0\1\x65") :]
    async with running() as r:
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264)
        await stream.frame(0, sets)
        await stream.frame(1, picture)
        assert (await stream.result()).invalid_reason == pb.INVALID_REASON_EMPTY
        assert (await stream.result()).status == pb.FRAME_STATUS_OK


@pytest.mark.parametrize("codec", CODECS)
async def test_the_size_may_change(codec):
    clips = [encode_clip(plain_images(3, *size), codec) for size in ((64, 48), (96, 80), (50, 36))]
    async with running() as r:
        stream = await r.open(frame_codec=CODECS[codec])
        results = await answers(stream, [unit for clip in clips for unit in clip])
    sizes = [(result.mask.width, result.mask.height) for result in results]
    assert sizes == [(64, 48)] * 3 + [(96, 80)] * 3 + [(50, 36)] * 3


@pytest.mark.parametrize("codec", CODECS)
async def test_odd_sizes_and_ten_bits_are_as_good_as_others(codec):
    odd = encode_clip(plain_images(3, 63, 47), codec, pixels="yuv444p")
    deep = encode_clip(plain_images(3), codec, pixels="yuv420p10le")
    async with running() as r:
        stream = await r.open(frame_codec=CODECS[codec], mask_encoding=pb.MASK_ENCODING_RAW)
        results = await answers(stream, odd + deep)
    assert [labels(result).shape for result in results] == [(47, 63)] * 3 + [(48, 64)] * 3
    for unit, result in zip(odd + deep, results, strict=True):
        assert (labels(result) == plain_label(unit.shown)).mean() > 0.98


@pytest.mark.parametrize("codec", CODECS)
async def test_what_is_too_large_is_refused_before_it_is_decoded(codec):
    large, small = encode_clip(plain_images(1, 640, 480), codec), encode_clip(plain_images(1), codec)
    async with running(max_frame_pixels=320 * 240) as r:
        stream = await r.open(frame_codec=CODECS[codec])
        first, second = await answers(stream, large + small)
    assert first.invalid_reason == pb.INVALID_REASON_TOO_MANY_PIXELS and "640 x 480" in first.detail
    assert second.status == pb.FRAME_STATUS_OK
    async with running(max_decoder_bytes=1 << 20) as r:
        stream = await r.open(frame_codec=CODECS[codec])
        first, second = await answers(stream, large + small)
    assert first.invalid_reason == pb.INVALID_REASON_TOO_COSTLY and "reference" in first.detail
    assert second.status == pb.FRAME_STATUS_OK


@pytest.mark.parametrize("codec", CODECS)
async def test_slices_that_code_the_picture_again_and_again_are_refused(codec):
    clip = encode_clip(moving_images(2, 640, 480), codec)
    last = clip[1].data[clip[1].data.rindex(b"\0\0\1") :]
    async with running(max_decode_seconds=0.1) as r:
        stream = await r.open(frame_codec=CODECS[codec])
        await stream.frame(0, clip[0].data)
        await stream.frame(1, clip[1].data + last * 200)
        assert (await stream.result()).status == pb.FRAME_STATUS_OK
        result = await stream.result()
    reasons = {pb.INVALID_REASON_TOO_COSTLY, pb.INVALID_REASON_UNSUPPORTED}
    assert result.invalid_reason in reasons, result.detail


async def test_labels_are_left_out_under_drop_oldest_and_decoding_is_not():
    """While the engine is busy frames are dropped; what is computed afterwards still refers to them."""
    units, gate = encode_clip(plain_images(60), params="bframes=0:keyint=60"), threading.Event()
    async with running(FakeEngine(gate)) as r:
        stream = await r.open(
            frame_codec=pb.FRAME_CODEC_H264,
            mask_encoding=pb.MASK_ENCODING_RAW,
            queue_policy=pb.QUEUE_POLICY_DROP_OLDEST,
        )
        sending = asyncio.create_task(send_all(stream, units))
        await asyncio.to_thread(r.engine.stepping.wait)
        await sending
        gate.set()
        results = await stream.results()
    assert [result.frame_id for result in results] == list(range(60))
    dropped = [result for result in results if result.status == pb.FRAME_STATUS_DROPPED]
    done = [result for result in results if result.status == pb.FRAME_STATUS_OK]
    assert len(dropped) > 40 and len(dropped) + len(done) == 60
    for result in done:
        assert (labels(result) == plain_label(result.frame_id)).mean() > 0.98


async def test_units_that_have_their_answer_are_decoded_for_the_others():
    units = encode_clip(plain_images(20), params="bframes=0:keyint=20")
    async with running() as r:
        stream = await r.open(frame_codec=pb.FRAME_CODEC_H264, mask_encoding=pb.MASK_ENCODING_RAW)
        for number in range(7, 12):
            await stream.frame(number, units[number - 7].data, decode_only=True)
        await stream.frame(12, units[5].data)
        result = await stream.result()
        assert (result.frame_id, result.status) == (12, pb.FRAME_STATUS_OK)
        assert (labels(result) == plain_label(5)).mean() > 0.98
        assert sum(len(plan) for plan in r.engine.plans) == 1
        await stream.frame(11, units[5].data, decode_only=True)
        await stream.rest()
        code, text = await stream.status()
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "11 after 11, both decode_only" in text


async def test_a_session_that_is_resumed_takes_units_that_it_has_and_goes_on():
    units = encode_clip(plain_images(20), params=STRUCTURES["b-pictures"])
    async with running() as r:
        lost = await r.open(frame_codec=pb.FRAME_CODEC_H264, mask_encoding=pb.MASK_ENCODING_RAW)
        for number in range(6):
            await lost.frame(number, units[number].data)
        got = [await lost.result() for _ in range(3)]
        lost.call.cancel()
        again = await r.open(
            frame_codec=pb.FRAME_CODEC_H264,
            mask_encoding=pb.MASK_ENCODING_RAW,
            resume_token=lost.started.resume_token,
            last_result_id=got[-1].frame_id,
        )
        assert again.started.resumed
        begin = again.started.last_frame_id + 1
        for number in range(begin):
            await again.frame(number, units[number].data, decode_only=True)
        for number in range(begin, 20):
            await again.frame(number, units[number].data)
        await again.done()
        got += await again.results()
    assert [result.frame_id for result in got] == list(range(20))
    for unit, result in zip(units, got, strict=True):
        assert (labels(result) == plain_label(unit.shown)).mean() > 0.98


async def test_there_are_only_so_many_decoders():
    async with running(max_video_sessions=1) as r:
        first = await r.open(frame_codec=pb.FRAME_CODEC_H264)
        stream = await refused(r, config(frame_codec=pb.FRAME_CODEC_H265))
        code, text = await stream.status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "all 1 decoders of video are taken" in text
        await r.open()
        await first.done()
        await first.rest()
        await r.open(frame_codec=pb.FRAME_CODEC_H265)


async def test_a_server_without_decoders_says_so():
    async with running(max_video_sessions=0) as r:
        assert (await r.stub.GetServerInfo(pb.GetServerInfoRequest())).frame_codecs == [pb.FRAME_CODEC_JPEG]
        stream = await refused(r, config(frame_codec=pb.FRAME_CODEC_H264), frame(0, b""))
        code, text = await stream.status()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "FRAME_CODEC_H264 is not offered; allowed: FRAME_CODEC_JPEG" in text


def quarters() -> np.ndarray:
    """Labels 1 and 2 above, 3 and 4 below, by the fake engine; twice as wide as high."""
    image = np.zeros((64, 128, 3), np.uint8)
    image[:32, :64], image[:32, 64:], image[32:, :64], image[32:, 64:] = 20, 40, 60, 80
    return image


@pytest.mark.parametrize("codec", ["jpeg", *CODECS])
@pytest.mark.parametrize(
    ("rotation", "corners"),
    [(0, (1, 2, 3, 4)), (90, (3, 1, 4, 2)), (180, (4, 3, 2, 1)), (270, (2, 4, 1, 3))],
)
async def test_frames_are_turned_clockwise_before_anything_else(codec, rotation, corners):
    data = encode(quarters()) if codec == "jpeg" else encode_clip([quarters()], codec)[0].data
    wire = CODECS.get(codec, pb.FRAME_CODEC_JPEG)
    size = (64, 128) if rotation % 180 else (128, 64)
    for compute in (None, pb.Size(width=size[0] // 2, height=size[1] // 2)):
        async with running() as r:
            stream = await r.open(
                frame_codec=wire,
                rotation=rotation,
                mask_encoding=pb.MASK_ENCODING_RAW,
                compute_size=compute,
            )
            assert stream.started.config.rotation == rotation
            await stream.frame(0, data)
            mask = labels(await stream.result())
        assert mask.shape == size[::-1]
        rows, columns = size[1] // 4, size[0] // 4
        found = [mask[rows * y, columns * x] for y in (1, 3) for x in (1, 3)]
        assert tuple(found) == corners
