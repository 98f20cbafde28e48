"""Pictures of a camera on the page: its frames with the labels that its client gets, at nobody's cost."""

import asyncio
import contextlib

import aiohttp
import cv2
import numpy as np
import pytest

from support.clock import ManualClock
from support.fake_engine import STEP, FakeEngine
from support.frames import decode_rle, encode, jpeg
from support.jpegs import inserted, segment
from support.page import Page, look, paged
from support.server import Running, Stream
from support.waiting import until
from tilestream.messages import Codec
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.web.watch import FASTEST, LEASE, SHARE
from tilestream_client.masks import decode_png


def stripes(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A frame of many labels, another one for each number."""
    image = np.zeros((height, width, 3), np.uint8)
    for row in range(0, height, 16):
        image[row : row + 16] = STEP * ((row // 16 + number) % 12)
    return image


async def seen_while(page: Page, stream: Stream, frames: dict[int, bytes], **query):
    """A picture, and the results of frames that were sent while somebody waited for it."""
    asking = asyncio.create_task(page.picture(stream.started.session_id, **query))
    results = {}
    for frame_id, data in frames.items():
        await watched(page, stream)
        await stream.frame(frame_id, data)
        results[frame_id] = await stream.result()
    return await asking, results


async def watched(page: Page, stream: Stream) -> None:
    """Somebody waits for a picture of the camera, or has got one."""
    live = page.server._live_sessions.find(stream.started.session_id)
    await until(lambda: live.pipeline.tap is not None and live.pipeline.tap._waiting)


@contextlib.asynccontextmanager
async def looked_at(r: Running, **more):
    async with look(r, **more) as page:
        page.server = r.server
        yield page


def client_labels(mask: pb.Mask) -> np.ndarray:
    if mask.encoding == pb.MASK_ENCODING_RLE:
        return decode_rle(mask.data, mask.width, mask.height)
    if mask.encoding == pb.MASK_ENCODING_RAW:
        return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
    return decode_png(mask.data, mask.width, mask.height)


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("encoding", ["PNG", "RLE", "RAW"])
async def test_the_labels_are_the_client_s(encoding, runs):
    async with paged(FakeEngine(runs=runs)) as r, looked_at(r) as page:
        size = pb.Size(width=200, height=90)
        stream = await r.open(mask_encoding=f"MASK_ENCODING_{encoding}", output_size=size)
        sent = encode(stripes(1))
        picture, results = await seen_while(page, stream, {7: sent})
        assert picture.about["frame_id"] == 7 and picture.frame == sent
        assert (picture.labels == client_labels(results[7].mask)).all() and picture.labels.shape == (90, 200)
        areas = {area["value"]: area["pixels"] for area in picture.about["areas"]}
        values, counts = np.unique(picture.labels, return_counts=True)
        assert areas == dict(zip(values.tolist(), counts.tolist(), strict=True))
        shares = [area["share"] for area in picture.about["areas"]]
        assert sum(shares) == pytest.approx(1.0) and shares == sorted(shares, reverse=True)
        assert picture.about["areas"][0]["name"].startswith("class")


async def test_the_next_picture_is_a_later_frame():
    clock = ManualClock()
    async with paged(clock=clock, idle_timeout=0, heartbeat_interval=0) as r, looked_at(r) as page:
        stream = await r.open()
        first, _ = await seen_while(page, stream, {3: jpeg(1)})
        clock.advance(FASTEST)
        second, _ = await seen_while(page, stream, {9: jpeg(2)}, after=first.about["frame_id"])
        assert (second.about["frame_id"], second.labels[0, 0]) == (9, 2)


async def test_bins_are_told_on_demand_whatever_the_session_asks_for():
    async with paged() as r, looked_at(r) as page:
        stream = await r.open()
        picture, results = await seen_while(page, stream, {0: encode(stripes(0))}, bins=True)
        bins = picture.about["bins"]
        assert (bins["bin_size"], bins["rows"], bins["columns"]) == (64, 1, 2) and bins["units_computed"] == [
            8,
            8,
        ]
        assert not results[0].HasField("bins"), "the client has not asked for them"
        without, _ = await seen_while(page, await r.open(), {0: jpeg()})
        assert without.about["bins"] is None


@pytest.mark.parametrize("takes", [(), (Codec.JPEG,)])
async def test_a_frame_that_browsers_would_not_take_is_made_fit(takes):
    """Cameras send a multipart header in front of the picture, or zeros; the server takes both."""
    image = stripes(2)
    async with paged(FakeEngine(takes=takes)) as r, looked_at(r) as page:
        stream = await r.open()
        sent = b"--boundary\r\nContent-Type: image/jpeg\r\n\r\n" + encode(image)
        picture, _ = await seen_while(page, stream, {0: sent})
        assert picture.frame[:3] == b"\xff\xd8\xff"
        shown = cv2.imdecode(np.frombuffer(picture.frame, np.uint8), cv2.IMREAD_COLOR)
        assert shown.shape == image.shape and np.abs(shown.astype(int) - image).mean() < 3


async def test_where_a_picture_was_taken_is_not_told():
    secret = b"Exif\0\0 52.5170 N 13.3889 E"
    async with paged() as r, looked_at(r) as page:
        stream = await r.open()
        plain = encode(stripes(0))
        told = inserted(plain, 0xE0, segment(0xE1, secret))
        picture, _ = await seen_while(page, stream, {0: told})
        assert picture.frame == plain


async def test_frames_without_labels_are_passed_over():
    clock = ManualClock()
    async with paged(clock=clock, idle_timeout=0, heartbeat_interval=0) as r, looked_at(r) as page:
        stream = await r.open()
        asking = asyncio.create_task(page.picture(stream.started.session_id))
        await watched(page, stream)
        statuses = []
        for frame_id, data in enumerate((b"no picture", jpeg(1))):
            await stream.frame(frame_id, data)
            statuses.append((await stream.result()).status)
        assert statuses == [pb.FRAME_STATUS_INVALID, pb.FRAME_STATUS_OK]
        clock.advance(FASTEST)
        await stream.frame(2, jpeg(2))
        await stream.result()
        assert (await asking).about["frame_id"] == 2


async def test_nothing_is_kept_when_nobody_looks():
    clock = ManualClock()
    async with paged(clock=clock, idle_timeout=0, heartbeat_interval=0) as r, looked_at(r) as page:
        stream = await r.open()
        live = r.server._live_sessions.find(stream.started.session_id)
        assert live.pipeline.tap is None
        await seen_while(page, stream, {0: jpeg()})
        assert live.pipeline.tap is not None
        await clock.elapse(LEASE)
        await until(lambda: live.pipeline.tap is None)
        assert not r.server._page._watches and not r.server._page._drawn


async def test_pictures_are_so_many_a_second_and_the_frames_between_are_not_kept():
    clock = ManualClock()
    async with paged(clock=clock, idle_timeout=0, heartbeat_interval=0) as r, looked_at(r) as page:
        stream = await r.open()
        await seen_while(page, stream, {0: jpeg(0)})
        asking = asyncio.create_task(page.picture(stream.started.session_id, after=0))
        tap = r.server._live_sessions.find(stream.started.session_id).pipeline.tap
        await clock.elapse(FASTEST)  # its turn comes
        await watched(page, stream)
        tap.took(SHARE * 2.0)  # seconds of a core, so that this share of two seconds is used up
        for number in range(1, 4):
            await stream.frame(number, jpeg(1))
            await stream.result()
            assert tap._followed is None
        clock.advance(2.0)
        await stream.frame(4, jpeg(4))
        await stream.result()
        assert (await asking).about["frame_id"] == 4


async def test_a_slow_viewer_holds_one_answer_and_no_frame_waits_for_it():
    """It reads nothing of a large picture; the camera goes on, and other viewers see the latest."""
    clock = ManualClock()
    large = {"max_frame_bytes": 32 << 20, "max_message_bytes": 64 << 20, "max_decode_seconds": 60}
    patient = {"idle_timeout": 0, "heartbeat_interval": 0}
    async with paged(clock=clock, **large, **patient) as r, looked_at(r) as page:
        stream = await r.open()
        session = stream.started.session_id
        noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
        port = r.server.settings.web_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        asks = f"GET /api/sessions/{session}/picture?viewer=slow-one HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(asks.encode())
        await watched(page, stream)
        await stream.frame(0, encode(noise, quality=100))
        await stream.result()
        await reader.read(100)  # it has begun to come
        for number in range(1, 6):
            await stream.frame(number, jpeg(number))
            assert (await stream.result()).frame_id == number
        clock.advance(60.0)
        picture, _ = await seen_while(page, stream, {9: jpeg(9)}, after=0)
        assert picture.about["frame_id"] == 9
        with contextlib.suppress(ConnectionError):  # it has had its time
            while await reader.read(1 << 20):
                pass
        writer.close()


async def test_who_looks_hears_at_once_that_a_session_is_over():
    async with paged() as r, looked_at(r) as page:
        stream = await r.open()
        session = stream.started.session_id
        asking = asyncio.create_task(page.get(f"api/sessions/{session}/picture"))
        await watched(page, stream)
        await stream.done()
        status, _, body = await asking
        assert status == 404 and b"over" in body
        assert (await page.get(f"api/sessions/{session}/picture"))[0] == 404
        assert await page.sessions() == []


async def test_a_camera_that_sends_nothing_is_asked_for_again():
    clock = ManualClock()
    async with paged(clock=clock, idle_timeout=0, heartbeat_interval=0) as r, looked_at(r) as page:
        stream = await r.open()
        asking = asyncio.create_task(page.picture(stream.started.session_id))
        await clock.elapse(10.0)
        assert await asking is None


async def test_pictures_only_where_they_are_allowed():
    async with paged(web_frames=False) as r, look(r) as page:
        stream = await r.open()
        assert (await page.json("api/server"))["shows_frames"] is False
        status, _, body = await page.get(f"api/sessions/{stream.started.session_id}/picture")
        assert status == 403 and b"--web-frames" in body


async def test_ten_viewers_of_one_camera_get_one_drawing():
    async with paged() as r, contextlib.AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(look(r, viewer=f"viewer-{n}")) for n in range(10)]
        stream = await r.open()
        session = stream.started.session_id
        asking = [asyncio.create_task(page.picture(session)) for page in pages]
        tap = r.server._live_sessions.find(session).pipeline
        await until(lambda: tap.tap is not None and tap.tap._waiting == 10)
        await stream.frame(5, encode(stripes(5)))
        await stream.result()
        pictures = await asyncio.gather(*asking)
        assert {picture.about["frame_id"] for picture in pictures} == {5}
        assert len({picture.png for picture in pictures}) == 1


async def test_a_viewer_that_leaves_does_not_wait_on():
    async with paged() as r, look(r) as page:
        stream = await r.open()
        live = r.server._live_sessions.find(stream.started.session_id)
        asking = asyncio.create_task(page.picture(stream.started.session_id))
        await until(lambda: live.pipeline.tap is not None and live.pipeline.tap._waiting)
        asking.cancel()
        await until(lambda: not live.pipeline.tap._waiting)
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
            await asking


async def test_labels_that_come_with_a_later_step_make_a_picture_of_their_frame():
    engine = FakeEngine()
    engine.later = 1
    async with paged(engine) as r, looked_at(r) as page:
        stream = await r.open()
        asking = asyncio.create_task(page.picture(stream.started.session_id))
        await watched(page, stream)
        await stream.frame(0, jpeg(3))
        await stream.frame(1, jpeg(5))
        assert (await stream.result()).frame_id == 0
        picture = await asking
        assert (picture.about["frame_id"], picture.labels[0, 0]) == (0, 3)
