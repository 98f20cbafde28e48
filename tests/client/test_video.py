"""Video by the client: files of all kinds as they are or decoded, and sessions that are opened again."""

import asyncio
import io
import json

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.frames import encode
from support.proxy import proxied
from support.server import running
from support.video import (
    STRUCTURES,
    encode_clip,
    moving_images,
    plain_images,
    plain_label,
    turn_clip,
    write_clip,
)
from tilestream_client import AsyncClient, Client, Frame, SourceError, VideoFile, VideoPackets, jpeg
from tilestream_client.access_units import is_key_unit
from tilestream_client.cli.app import app
from tilestream_client.config import FrameCodec

CODECS = ("h264", "h265")


def streamed(port: int, frames, **options) -> list:
    """All results; to be run in a thread."""
    with Client(f"127.0.0.1:{port}") as client:
        return list(client.stream(frames, **options))


def shown(results: list) -> list[int]:
    """The labels of plain images, in the order of their times."""
    assert all(result.ok for result in results), [(r.frame_id, r.detail) for r in results if not r.ok]
    ordered = sorted(results, key=lambda result: result.capture_time)
    return [int(np.bincount(result.labels.ravel()).argmax()) for result in ordered]


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("structure", ["closed", "b-pictures", "open"])
async def test_a_file_s_packets_are_sent_as_they_are(tmp_path, container, codec, structure):
    path = write_clip(tmp_path / f"clip.{container}", plain_images(25), codec, STRUCTURES[structure])
    packets = VideoPackets(path)
    assert packets.frame_codec == codec and packets.reorders == (structure != "closed")
    async with running() as r:
        results = await asyncio.to_thread(streamed, r.server.port, packets)
    assert [result.frame_id for result in results] == list(range(25))
    assert shown(results) == [plain_label(number) for number in range(25)]


@pytest.mark.parametrize("codec", CODECS)
async def test_odd_sizes_and_ten_bits(tmp_path, codec):
    for name, size, pixels in (("odd", (63, 47), "yuv444p"), ("deep", (64, 48), "yuv420p10le")):
        path = write_clip(tmp_path / f"{name}.mkv", plain_images(6, *size), codec, pixels=pixels)
        for source in (VideoFile(path), VideoPackets(path)):
            async with running() as r:
                results = await asyncio.to_thread(streamed, r.server.port, source)
            assert shown(results) == [plain_label(number) for number in range(6)]
            assert results[0].labels.shape == size[::-1]


def corners(rotation: int) -> np.ndarray:
    """uint8 [2, 2]: labels of the quarters of a picture that stands upright once it is turned."""
    return np.rot90(np.array([[1, 2], [3, 4]], np.uint8), rotation // 90)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("as_packets", [False, True])
async def test_turned_videos_are_segmented_upright(tmp_path, rotation, as_packets):
    quarters = np.kron(20 * corners(rotation), np.ones((32, 64), np.uint8))
    image = np.repeat(quarters[..., None], 3, axis=2)
    path = write_clip(tmp_path / "turned.mp4", [image] * 3)
    turn_clip(path, rotation)
    video = VideoFile(path)
    size = (64, 128) if rotation % 180 else (128, 64)
    assert (video.rotation, video.size) == (rotation, size)
    source = video.packets(with_images=True) if as_packets else video
    async with running() as r:
        results = await asyncio.to_thread(streamed, r.server.port, source)
    for result in results:
        assert result.labels.shape == result.image.shape[:2] == size[::-1]
        rows, columns = size[1] // 4, size[0] // 4
        found = [[result.labels[rows * y, columns * x] for x in (1, 3)] for y in (1, 3)]
        assert found == [[1, 2], [3, 4]]
        assert abs(int(result.image[rows, columns, 0]) - 20) < 4


@pytest.mark.parametrize("structure", ["closed", "b-pictures"])
def test_times_of_capture_are_the_file_s(tmp_path, structure):
    times = [0, 40, 50, 200, 1000, 1010, 1500, 3000]
    path = write_clip(tmp_path / "uneven.mkv", plain_images(8), params=STRUCTURES[structure], times=times)
    for source in (VideoFile(path), VideoPackets(path)):
        captured = sorted(frame.capture_time for frame in source)
        assert [round((time - captured[0]) * 1000) for time in captured] == times
        assert abs(captured[0] - path.stat().st_mtime) < 1


@pytest.mark.parametrize("container", ["mkv", "ts"])
async def test_a_file_that_was_cut_off_is_streamed_up_to_there(tmp_path, container):
    path = write_clip(tmp_path / f"clip.{container}", moving_images(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    for source in (VideoFile(path), VideoPackets(path)):
        async with running() as r:
            results = await asyncio.to_thread(streamed, r.server.port, source)
        assert 15 < len(results) < 40
        assert sum(not result.ok for result in results) <= 1


def test_an_mp4_without_its_end_is_a_clear_error(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", moving_images(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(SourceError, match=r"cannot open .*clip.mp4: Invalid data"):
        VideoFile(path)


def test_what_is_neither_h264_nor_h265_cannot_be_sent_as_it_is(tmp_path):
    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(plain_images(1)[0], format="rgb24")))
        container.mux(stream.encode(None))
    assert VideoFile(path).codec is None
    with pytest.raises(SourceError, match="has to be decoded and sent as JPEG"):
        VideoPackets(path)


async def test_a_picture_is_no_access_unit():
    async with running() as r:
        with pytest.raises(SourceError, match="frame 0 is a picture, and the stream of h264 units"):
            await asyncio.to_thread(streamed, r.server.port, plain_images(1), frame_codec="h264")


@pytest.mark.parametrize("resume_ttl", [0.0, 30.0])
@pytest.mark.parametrize("structure", ["closed", "b-pictures"])
async def test_a_stream_that_is_lost_gives_every_picture_its_labels(resume_ttl, structure):
    """Whether the server has the session yet, and with it the decoder, or not."""
    units = encode_clip(plain_images(60), params=f"{STRUCTURES[structure]}".replace("10", "25"))
    async with running(resume_ttl=resume_ttl) as r, proxied(r.server.port) as proxy:
        loop = asyncio.get_running_loop()

        def frames():
            for number, unit in enumerate(units):
                if number in (20, 33):
                    loop.call_soon_threadsafe(proxy.cut)
                yield Frame(data=unit.data, capture_time=1 + unit.shown)

        def stream():
            with Client(f"127.0.0.1:{proxy.port}") as client:
                stream = client.stream(frames(), frame_codec="h264")
                return list(stream), stream.reconnects

        results, reconnects = await asyncio.to_thread(stream)
    assert reconnects >= 1
    assert [result.frame_id for result in results] == list(range(60))
    assert shown(results) == [plain_label(number) for number in range(60)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_key_units_are_found(codec, structure):
    units = encode_clip(moving_images(30), codec, STRUCTURES[structure])
    keys = [unit.shown for unit in units if is_key_unit(FrameCodec(codec), unit.data)]
    every = 11 if structure == "open" else 10
    begins_anew = codec == "h264" or structure != "refresh"  # H.265's decoder does not begin with a refresh
    assert keys == (list(range(0, 30, every)) if begins_anew else [0])


def exif_jpeg(orientation: int) -> bytes:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :32] = 200
    picture = Image.fromarray(image)
    exif = picture.getexif()
    exif[0x0112] = orientation

    out = io.BytesIO()
    picture.save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_as_their_exif_tag_says(orientation):
    data = exif_jpeg(orientation)
    sent = Frame(data=data).encoded()
    expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    found = jpeg.decode(sent)
    assert found.shape == expected.shape == ((64, 32, 3) if orientation > 4 else (32, 64, 3))
    assert np.abs(found.astype(int) - expected).max() < 25
    assert (sent == data) == (orientation == 1)


def test_jpegs_without_a_tag_and_damaged_ones_are_sent_as_they_are():
    plain = encode(plain_images(1)[0])
    for data in (plain, plain[:40], exif_jpeg(6)[:60], b"\xff\xd8\xffExif\0\0"):
        assert Frame(data=data).encoded() == data


def run_cli(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("structure", ["closed", "b-pictures"])
@pytest.mark.parametrize("codec", ["auto", "jpeg", "h264"])
async def test_the_command_writes_the_same_whichever_way_a_video_travels(tmp_path, structure, codec):
    path = write_clip(tmp_path / "clip.mp4", plain_images(24), params=STRUCTURES[structure])
    turn_clip(path, 90)
    out = tmp_path / "out"
    async with running() as r:
        server = f"127.0.0.1:{r.server.port}"
        words = (
            "stream",
            path,
            "--server",
            server,
            "--codec",
            codec,
            "--masks",
            out,
            "--json",
            tmp_path / "s.json",
        )
        done = await asyncio.to_thread(run_cli, *words, "--out", tmp_path / "overlay.mp4")
        bytes_in = r.metric("tilestream_jpeg_bytes_total")
    assert done.exit_code == 0, done.output
    names = sorted(file.name for file in out.iterdir())
    assert names == [f"{number:06d}.png" for number in range(24)]
    for number, name in enumerate(names):
        mask = np.array(Image.open(out / name))
        assert mask.shape == (64, 48)
        assert np.bincount(mask.ravel()).argmax() == plain_label(number)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["frames_ok"], summary["width"], summary["height"]) == (24, 48, 64)
    assert (bytes_in < path.stat().st_size) == (codec != "jpeg")
    with av.open(str(tmp_path / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == 24


async def test_the_command_says_why_a_codec_cannot_be_had(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", plain_images(3))
    for settings, codec, text in (
        ({}, "h265", "is not h265: --codec jpeg sends its pictures"),
        ({"max_video_sessions": 0}, "h264", "the server takes jpeg, not h264"),
    ):
        async with running(**settings) as r:
            server = f"127.0.0.1:{r.server.port}"
            done = await asyncio.to_thread(run_cli, "stream", path, "--server", server, "--codec", codec)
        assert done.exit_code == 1 and text in done.output
    async with running(max_video_sessions=0) as r:
        server = f"127.0.0.1:{r.server.port}"
        done = await asyncio.to_thread(run_cli, "stream", path, "--server", server)
    assert done.exit_code == 0 and "3 of 3 frames segmented" in done.output


@pytest.mark.parametrize("structure", ["closed", "b-pictures"])
async def test_the_asyncio_client_sends_packets_as_well(tmp_path, structure):
    path = write_clip(tmp_path / "clip.mp4", plain_images(25), params=STRUCTURES[structure])
    async with running() as r, AsyncClient(f"127.0.0.1:{r.server.port}") as client:
        results = [result async for result in client.stream(VideoPackets(path))]
    assert shown(results) == [plain_label(number) for number in range(25)]
