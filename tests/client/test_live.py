"""Cameras by their addresses, over real sockets."""

import asyncio
import itertools

import pytest

from support.frames import jpeg
from support.rtsp import mjpeg_camera, rtsp_camera
from support.server import running
from support.video import encode_clip, moving_images, plain_images, plain_label
from tilestream_client import Client, LiveVideo, SourceError
from tilestream_client.live import LivePackets, is_url
from tilestream_client.sources import open_source


def test_what_is_an_address():
    assert is_url("rtsp://10.0.0.1/front") and is_url("HTTP://camera/video.mjpg")
    assert not is_url("drive.mp4") and not is_url("file:///tmp/a.mp4") and not is_url("C:/clips/a.mp4")


def streamed(port: int, source, count: int) -> list:
    with Client(f"127.0.0.1:{port}") as client:
        return list(itertools.islice(client.stream(source), count))


async def test_a_camera_s_units_are_sent_as_they_are_and_a_camera_that_hangs_up_is_asked_again():
    units = encode_clip(plain_images(30, 320, 240))
    async with running() as r:
        with rtsp_camera(units, hangs_up_after=13) as url:
            video = await asyncio.to_thread(LiveVideo, url)
            results = await asyncio.to_thread(streamed, r.server.port, video.packets(), 30)
        assert r.metric("tilestream_jpeg_bytes_total") < 30 * 10_000
    assert video.codec == "h264" and video.reconnects >= 1
    done = [result for result in results if result.ok]
    # The last unit before it hangs up may be cut short.
    assert len(done) >= 26
    for number, result in zip(range(12), results, strict=False):
        assert result.ok and (result.labels == plain_label(number)).mean() > 0.98
        assert result.capture_time > 1.7e9


async def test_a_camera_s_pictures_can_be_sent_as_jpegs():
    units = encode_clip(plain_images(30))
    async with running() as r:
        with rtsp_camera(units, hangs_up_after=30) as url:
            video = await asyncio.to_thread(open_source, url)
            results = await asyncio.to_thread(streamed, r.server.port, video, 20)
    assert all(result.ok for result in results)
    assert (results[5].labels == plain_label(5)).mean() > 0.98


async def test_motion_jpeg_over_http_is_sent_picture_by_picture():
    pictures = [jpeg(1 + number % 9) for number in range(12)]
    async with running() as r:
        with mjpeg_camera(pictures) as url:
            video = await asyncio.to_thread(open_source, url)
            results = await asyncio.to_thread(streamed, r.server.port, video, 8)
    assert video.codec is None
    for number, result in enumerate(results):
        assert result.jpeg == pictures[number]
        assert (result.labels == 1 + number % 9).mean() > 0.98
    with pytest.raises(SourceError, match=r"is no H\.264 or H\.265"):
        LivePackets(video)


def test_a_camera_that_is_not_there_is_a_clear_error():
    with pytest.raises(SourceError, match=r"cannot open rtsp://127.0.0.1:1/front: "):
        LiveVideo("rtsp://127.0.0.1:1/front", timeout=5)


def test_a_camera_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr("tilestream_client.live._FIRST_DELAY", 0.01)
    units = encode_clip(moving_images(3))
    with rtsp_camera(units, hangs_up_after=3) as url:
        video = LiveVideo(url, reconnect_timeout=0.0)
        with pytest.raises(SourceError, match=r"did not come back within 0 s"):
            list(video)
