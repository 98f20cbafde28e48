# ruff: noqa: E501 (tables)
"""Every rule about bad input: the status or the reason, its text, and that others live on."""

import math

import grpc
import numpy as np
import pytest
import simplejpeg
from google.rpc import error_details_pb2

from support.frames import encode, jpeg, photo
from support.jpegs import SOI, inserted, place, with_byte
from support.server import Stream, config, frame, refused, running, status_details
from support.waiting import until
from tilestream.v1 import segmentation_pb2 as pb


def region(name: str, points: int = 3, *more: pb.Point) -> pb.Region:
    return pb.Region(name=name, points=[pb.Point(x=0.5, y=i / points) for i in range(points)] + list(more))


LIMITS = {"max_frame_pixels": 640 * 480, "max_frame_side": 1000, "max_compute_pixels": 320 * 240}


WRONG_CONFIGS = [
    ("config.model", {"model": "nosuch"}, "unknown model 'nosuch'; allowed: fake, other"),
    ("config.mask_encoding", {"mask_encoding": 77}, "77 is not offered; allowed: MASK_ENCODING_PNG, MASK_ENCODING_RLE"),
    ("config.frame_codec", {"frame_codec": 9}, "9 is not offered; allowed: FRAME_CODEC_JPEG, FRAME_CODEC_H264, FRAME_CODEC_H265"),
    ("config.queue_policy", {"queue_policy": 9}, "allowed: QUEUE_POLICY_WAIT, QUEUE_POLICY_DROP_OLDEST, QUEUE_POLICY_LATEST_ONLY"),
    ("config.frames_in_flight", {"frames_in_flight": 9}, "9; allowed: 0 (default) to 8"),
    ("config.output_size.width", {"output_size": pb.Size(width=0, height=10)}, "0; allowed: width and height 1 to 1000"),
    ("config.output_size.height", {"output_size": pb.Size(width=10)}, "0; allowed: width and height 1 to 1000"),
    ("config.output_size.width", {"output_size": pb.Size(width=1001, height=1)}, "1001; allowed"),
    ("config.output_size", {"output_size": pb.Size(width=1000, height=1000)}, "1000 x 1000 pixels; allowed: width and height 1 to 1000, width * height at most 307200 pixels"),
    ("config.compute_size", {"compute_size": pb.Size(width=640, height=480)}, "at most 76800 pixels"),
    ("config.compute_size.width", {"compute_size": pb.Size()}, "0; allowed"),
    ("config.block_budget", {"block_budget": 1.5}, "1.5; allowed: 0 (automatic), or above 0 up to 1"),
    ("config.block_budget", {"block_budget": -0.1}, "-0.1; allowed"),
    ("config.block_budget", {"block_budget": math.nan}, "nan; allowed"),
    ("config.weight", {"weight": 1000}, "1000; allowed: 0 (default, 1), or 0.01 to 100"),
    ("config.weight", {"weight": math.inf}, "inf; allowed"),
    ("config.outputs.polygons", {"outputs": pb.Outputs(polygons=True)}, "set without instances; allowed: set instances, too"),
    ("config.outputs.coco_rle", {"outputs": pb.Outputs(coco_rle=True)}, "allowed: set instances or areas, too"),
    ("config.outputs.polygon_tolerance", {"outputs": pb.Outputs(polygon_tolerance=101)}, "101; allowed: 0 (default, 1) to 100 pixels"),
    ("config.outputs.polygon_tolerance", {"outputs": pb.Outputs(polygon_tolerance=math.nan)}, "nan; allowed"),
    ("config.outputs.instance_classes", {"outputs": pb.Outputs(instance_classes=[3, 12])}, "12; allowed: 0 to 11, the classes of fake"),
    ("config.regions", {"regions": [region(f"{i}") for i in range(65)]}, "65; allowed: at most 64"),
    ("config.regions", {"regions": [region(f"{i}", 33) for i in range(32)]}, "1056 corners; allowed: together at most 1024"),
    ("config.regions[1].name", {"regions": [region("lane"), region("lane")]}, "'lane' again; allowed: names that differ"),
    ("config.regions[0].name", {"regions": [region("")]}, "0 characters; allowed: 1 to 64"),
    ("config.regions[0].points", {"regions": [region("lane", 2)]}, "2; allowed: 3 to 64 corners"),
    ("config.regions[0].points", {"regions": [region("lane", 65)]}, "65; allowed"),
    ("config.regions[0].points[2]", {"regions": [region("lane", 2, pb.Point(x=640, y=0.5))]}, "640, 0.5; allowed: x and y 0 to 1, as shares"),
    ("config.regions[0].points[2]", {"regions": [region("lane", 2, pb.Point(x=math.nan))]}, "nan, 0; allowed"),
    ("config.rules", {"rules": [pb.Rule(name=f"{i}", classes=[1]) for i in range(65)]}, "65; allowed: at most 64"),
    ("config.rules[0].name", {"rules": [pb.Rule(name="x" * 65, classes=[1])]}, "65 characters; allowed: 1 to 64"),
    ("config.rules[1].name", {"rules": [pb.Rule(name="a", classes=[1])] * 2}, "'a' again"),
    ("config.rules[0].classes", {"rules": [pb.Rule(name="a")]}, "empty; allowed: at least one class"),
    ("config.rules[0].classes", {"rules": [pb.Rule(name="a", classes=[300])]}, "300; allowed: 0 to 11"),
    ("config.rules[0].region", {"rules": [pb.Rule(name="a", classes=[1], region="lane")]}, "unknown region 'lane'; allowed: empty (there are no regions)"),
    ("config.rules[0].region", {"rules": [pb.Rule(name="a", classes=[1], region="b")], "regions": [region("c"), region("d")]}, "allowed: c, d"),
    ("config.rules[0].above_share", {"rules": [pb.Rule(name="a", classes=[1], above_share=1)]}, "1; allowed: 0 up to below 1"),
    ("config.rules[0].above_share", {"rules": [pb.Rule(name="a", classes=[1], above_share=math.nan)]}, "nan; allowed"),
    ("config.rotation", {"rotation": 45}, "45; allowed: 0, 90, 180, 270 (degrees clockwise)"),
    ("config.camera_id", {"camera_id": "x" * 129}, "129 characters; allowed: at most 128"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "fields", "text"), WRONG_CONFIGS)
async def test_a_wrong_config_names_the_field_and_what_is_allowed(field, fields, text):
    async with running(**LIMITS) as r:
        stream = await refused(r, config(**fields))
        code, details = await stream.status()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith(f"{field}: ") and text in details
        (violation,) = (await status_details(stream.call, error_details_pb2.BadRequest)).field_violations
        assert violation.field == field and text in violation.description
        assert len(r.server.registry) == 0
        await r.open()  # the server goes on


@pytest.mark.parametrize(
    ("requests", "code", "text"),
    [
        ([], "INVALID_ARGUMENT", "config: missing; allowed: a config as the first request of a stream"),
        ([pb.StreamSegmentRequest()], "INVALID_ARGUMENT", "config: missing"),
        ([pb.StreamSegmentRequest(heartbeat=pb.Heartbeat())], "INVALID_ARGUMENT", "config: missing"),
        ([config(), config()], "INVALID_ARGUMENT", "config: sent twice; allowed: once, as the first request"),
        ([config(), pb.StreamSegmentRequest()], "INVALID_ARGUMENT", "request: empty; allowed: frame or heartbeat"),
        ([config(), pb.StreamSegmentRequest(frame=pb.Frame(frame_id=1, decode_only=True))], "INVALID_ARGUMENT", "frame.decode_only: set for a JPEG"),
        ([frame(1, b"")], "FAILED_PRECONDITION", "frame: sent before the config; allowed: a config as the first"),
        ([config(), frame(2, b""), frame(2, b"")], "FAILED_PRECONDITION", "frame.frame_id: 2 after 2; allowed: greater"),
        ([config(), frame(2, b""), frame(1, b"")], "FAILED_PRECONDITION", "frame.frame_id: 1 after 2; allowed: greater"),
    ],
)  # fmt: skip
async def test_requests_in_the_wrong_order(requests, code, text):
    async with running() as r:
        other = await r.open()
        stream = await refused(r, *requests)
        got, details = await stream.status()
        assert got is grpc.StatusCode[code] and text in details
        await other.frame(1, jpeg())
        assert (await other.result()).status == pb.FRAME_STATUS_OK


async def test_what_was_accepted_is_answered_before_the_stream_is_refused():
    async with running() as r:
        stream = Stream(r.stub.StreamSegment())
        for request in (config(frames_in_flight=8), frame(1, jpeg(1)), frame(2, jpeg(2)), frame(2, jpeg(3))):
            await stream.call.write(request)
        results = await stream.results()
        assert [(x.frame_id, x.status) for x in results] == [(1, pb.FRAME_STATUS_OK), (2, pb.FRAME_STATUS_OK)]
        assert (await stream.status())[0] is grpc.StatusCode.FAILED_PRECONDITION
        failure = await status_details(stream.call, error_details_pb2.PreconditionFailure)
        assert failure.violations[0].type == "FRAME_ORDER"


def gray() -> bytes:
    return simplejpeg.encode_jpeg(np.full((48, 64, 1), 60, np.uint8), colorspace="GRAY")


def cmyk() -> bytes:
    return simplejpeg.encode_jpeg(np.full((48, 64, 4), 60, np.uint8), colorspace="CMYK")


def damaged() -> bytes:
    data = bytearray(encode(photo(320, 240)))
    data[len(data) // 2 : len(data) // 2 + 400] = b"\x55\xaa" * 200
    return bytes(data)


def bomb() -> bytes:
    data = jpeg()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


def scans() -> bytes:
    data = encode(photo(64, 48), progressive=True)
    return data[:-2] + data[place(data, 0xDA, last=True)] * 64 + data[-2:]


BAD_FRAMES = {
    "empty": (lambda: b"", "EMPTY", "no data"),
    "not a JPEG": (lambda: b"GIF89a" + b"0" * 100, "NOT_JPEG", "does not start like a JPEG"),
    "truncated": (lambda: jpeg()[:-10], "TRUNCATED", "ends before its end marker"),
    "truncated, end marker kept": (lambda: encode(photo(320, 240))[:-900] + b"\xff\xd9", "TRUNCATED", "premature end"),
    "truncated header": (lambda: jpeg()[:40], "TRUNCATED", "inside its header"),
    "corrupt": (damaged, "CORRUPT", "damaged"),
    "too many bytes": (lambda: jpeg() + b"\0" * 100_000, "TOO_MANY_BYTES", "at most 90000 are taken"),
    "too many pixels": (lambda: jpeg(width=700, height=500), "TOO_MANY_PIXELS", "700 x 500 pixels, at most 307200"),
    "too long a side": (lambda: jpeg(width=1008, height=8), "TOO_MANY_PIXELS", "1000 a side"),
    "a bomb": (bomb, "TOO_MANY_PIXELS", "65535 x 65535"),
    "CMYK": (cmyk, "UNSUPPORTED", "CMYK or YCCK"),
    "64 scans more": (scans, "TOO_COSTLY", "more than 64 scans"),
}  # fmt: skip

ODD_FRAMES = {
    "two start markers": lambda: SOI + jpeg(2),
    "a multipart header in front": lambda: b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(2),
    "line ends and zeros in front": lambda: b"\r\n\0\0" + jpeg(2),
    "no end marker": lambda: jpeg(2)[:-2],
    "another picture behind": lambda: jpeg(2) + scans(),
    "zeros between segments": lambda: inserted(jpeg(2), 0xDB, bytes(608)),
    "a scan of no coefficients": lambda: with_byte(jpeg(2), 0xDA, -2, 0),
    "JFIF 2.01": lambda: with_byte(jpeg(2), 0xE0, 7, 2),
}
"""Frames that browsers show."""


@pytest.mark.parametrize("name", ODD_FRAMES)
async def test_a_frame_that_browsers_show_is_taken(name):
    async with running() as r:
        stream = await r.open(mask_encoding="MASK_ENCODING_RAW")
        await stream.frame(1, ODD_FRAMES[name]())
        result = await stream.result()
        assert result.status == pb.FRAME_STATUS_OK, result.detail
        assert set(result.mask.data) == {2}


async def test_a_frame_that_takes_too_long_is_refused_as_the_setting_says():
    async with running(max_decode_seconds=0.0001) as r:
        stream = await r.open()
        await stream.frame(1, encode(photo(640, 480)))
        result = await stream.result()
        assert pb.InvalidReason.Name(result.invalid_reason) == "INVALID_REASON_TOO_COSTLY"
        assert "at most 0.0001 are spent" in result.detail


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_a_bad_frame_is_answered_invalid_and_the_stream_lives(name):
    make, reason, text = BAD_FRAMES[name]
    async with running(max_frame_bytes=90_000, **LIMITS) as r:
        stream = await r.open()
        await stream.frame(1, jpeg(1))
        await stream.frame(2, make(), capture_time_us=5)
        await stream.frame(3, jpeg(3))
        first, bad, last = [await stream.result() for _ in range(3)]
        assert (first.status, last.status) == (pb.FRAME_STATUS_OK, pb.FRAME_STATUS_OK)
        assert (bad.frame_id, bad.capture_time_us, bad.status) == (2, 5, pb.FRAME_STATUS_INVALID)
        assert pb.InvalidReason.Name(bad.invalid_reason) == f"INVALID_REASON_{reason}"
        assert text in bad.detail
        assert not bad.HasField("mask") and bad.drop_reason == 0
        assert not any(frame_id == 2 for plan in r.engine.plans for _, frame_id in plan)


async def test_gray_is_converted():
    async with running() as r:
        stream = await r.open(mask_encoding="MASK_ENCODING_RAW")
        await stream.frame(1, gray())
        assert set((await stream.result()).mask.data) == {3}


async def test_a_message_above_the_limit():
    async with running(max_message_bytes=20_000, max_frame_bytes=18_000, resume_ttl=0) as r:
        other, stream = await r.open(), await r.open()
        await stream.frame(1, jpeg() + b"\0" * 30_000)
        await stream.rest()
        code, details = await stream.status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details and "20000" in details
        await other.frame(1, jpeg())
        assert (await other.result()).status == pb.FRAME_STATUS_OK
        await until(lambda: len(r.server.registry) == 1)


async def test_too_many_sessions():
    async with running(max_sessions=2, retry_delay=1.5) as r:
        first, second = await r.open(), await r.open()
        stream = await refused(r, config())
        code, details = await stream.status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "all 2 sessions" in details
        info = await status_details(stream.call, error_details_pb2.RetryInfo)
        assert info.retry_delay.ToMilliseconds() == 1500
        await first.frame(1, jpeg())
        assert (await first.result()).status == pb.FRAME_STATUS_OK
        await second.done()
        await second.rest()
        await until(lambda: len(r.server.registry) == 1)
        await r.open()


async def test_an_engine_without_room():
    async with running() as r:
        r.engine.refuse_open = True
        stream = await refused(r, config())
        code, details = await stream.status()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "no memory for another session" in details
        assert (await status_details(stream.call, error_details_pb2.RetryInfo)).HasField("retry_delay")
        assert len(r.server.registry) == 0


async def test_bytes_that_are_no_request():
    async with running() as r:
        raw = r.channel.stream_stream("/tilestream.v1.SegmentationService/StreamSegment")
        call = raw()
        await call.write(b"\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Traceback" not in await call.details() and "class" not in await call.details()
        call = raw()
        await call.write(config().SerializeToString())
        await call.write(frame(1, jpeg()).SerializeToString())
        await call.write(b"\xff\xff\xff")
        answers = [pb.StreamSegmentResponse.FromString(await call.read()) for _ in range(2)]
        assert answers[1].result.status == pb.FRAME_STATUS_OK
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        unary = r.channel.unary_unary("/tilestream.v1.SegmentationService/ListSessions")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_fault_of_the_server_shows_nothing_of_its_inside(monkeypatch):
    def explode(*args, **kwargs):
        raise RuntimeError("secret path /etc/x")

    async with running() as r:
        monkeypatch.setattr("tilestream.api.convert.config_message", explode)
        stream = await refused(r, config())
        code, details = await stream.status()
        assert code is grpc.StatusCode.INTERNAL
        assert details.startswith("internal error; the server's log has it as incident ")
        assert "secret" not in str(await stream.call.trailing_metadata())
        monkeypatch.undo()
        await r.open()
        assert len(r.server.registry) == 1
