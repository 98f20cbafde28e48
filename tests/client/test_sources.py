"""Frames out of files, folders, arrays and bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from typer.testing import CliRunner

from tilestream_client import Camera, Client, Frame, ImageFolder, SourceError, VideoFile, jpeg, paced
from tilestream_client.cli import app
from tilestream_client.sources import as_frame, open_source


def write_video(path: Path, noise: int = 1) -> Path:
    """12 frames of 64x48 at 12.5 frames/s, growing brighter; noise makes the file large."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25, 2))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            image = random.integers(0, noise, (48, 64, 3), np.uint8) + np.uint8(20 * index)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def video(tmp_path) -> Path:
    return write_video(tmp_path / "drive.mp4")


def test_a_video_file(video):
    source = open_source(video)
    assert isinstance(source, VideoFile)
    assert (source.fps, source.length, source.size) == (12.5, 12, (64, 48))
    for _ in range(2):  # it may be read again
        frames = list(source)
        assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 12
        assert np.diff([float(frame.image.mean()) for frame in frames]).min() > 10


def test_a_cut_off_video_gives_what_there_is(tmp_path):
    """The index of an mp4 is at its end; an avi is cut off here, as a camera that lost power leaves it."""
    path = write_video(tmp_path / "drive.avi", noise=200)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    assert 1 <= len(list(VideoFile(path))) < 12


@pytest.mark.parametrize("content", [b"", b"this is no video at all"])
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot open .*broken\.mp4"):
        open_source(path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        open_source(tmp_path / "missing.mp4")
    with pytest.raises(SourceError, match="no images"):
        open_source(tmp_path / "missing.png")
    with pytest.raises(SourceError, match="no images"):
        open_source(tmp_path)


def test_a_folder_in_natural_order_with_jpegs_untouched(tmp_path, images):
    jpegs = {}
    for number in (10, 2, 1):
        path = tmp_path / f"frame{number}.JPG"
        path.write_bytes(jpeg.encode(images[number % 10], quality=50))
        jpegs[path.name] = path.read_bytes()
    cv2.imwrite(str(tmp_path / "frame3.png"), cv2.cvtColor(images[3], cv2.COLOR_RGB2BGR))
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    assert isinstance(source, ImageFolder) and source.length == 4
    frames = list(source)
    assert [frame.name for frame in frames] == ["frame1.JPG", "frame2.JPG", "frame3.png", "frame10.JPG"]
    assert all(frame.encoded() == jpegs[frame.name] for frame in frames if frame.name in jpegs)
    np.testing.assert_array_equal(frames[2].image, images[3])
    (single,) = open_source(str(tmp_path / "frame2.JPG"))
    assert single.data == jpegs["frame2.JPG"]


@pytest.mark.parametrize("through", ["Client", "command"])
def test_a_folder_with_files_that_are_no_images(serve, tmp_path, images, through):
    """As memory cards hold them: resource forks are left out, others are INVALID and the rest goes on."""
    for name in ("1.jpg", "5.jpg"):
        (tmp_path / name).write_bytes(jpeg.encode(images[5]))
    (tmp_path / "._1.jpg").write_bytes(b"\0\5\x16\7 a resource fork")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.png").write_bytes(b"broken" * 10_000)
    (tmp_path / "4.png").symlink_to(tmp_path / "away.png")
    server = serve(fate=lambda frame_id: "invalid" if frame_id in (1, 2, 3) else "ok")
    if through == "command":
        arguments = ["stream", str(tmp_path), "--server", server.target, "--masks", str(tmp_path / "masks")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0 and "2 of 5 frames segmented, 3 invalid" in result.output
        assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["1.png", "5.png"]
        return
    with Client(server.target) as client:
        results = list(client.stream(tmp_path))
    assert [result.name for result in results] == ["1.jpg", "2.jpg", "3.png", "4.png", "5.jpg"]
    assert [str(result.status) for result in results] == ["ok", *["invalid"] * 3, "ok"]
    assert [frame.data for frame in server.records[0].frames][1:4] == [b"", b"broken" * 682 + b"brok", b""]
    assert "2.jpg is no image" in results[1].detail and "3.png is no image" in results[2].detail
    assert "cannot read" in results[3].detail and "No such file" in results[3].detail


def test_jpegs_that_opencv_does_not_show_are_sent_as_they_are(tmp_path, images):
    """The server takes them, and says so of each that it does not; what it took can be drawn over."""
    whole = jpeg.encode(images[5])
    odd = [b"\r\n" + whole, b"\xff\xd8" + whole, whole[:-2], bytes(9) + b"\xff\xd8" + whole[:-2]]
    for number, data in enumerate(odd):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    assert [frame.encoded() for frame in ImageFolder(tmp_path)] == odd
    for data in odd:
        np.testing.assert_array_equal(jpeg.decode_frame(data), jpeg.decode(whole))
    assert jpeg.decode_frame(b"no image") is None and jpeg.decode_frame(b"\xff\xd8") is None


def test_an_image_that_no_jpeg_holds_is_invalid(tmp_path):
    Image.fromarray(np.zeros((1, 70_000), np.uint8)).save(tmp_path / "a.png")
    (frame,) = ImageFolder(tmp_path)
    assert "too large for a JPEG" in frame.problem and len(frame.encoded()) < 5000


def test_a_single_file_that_is_no_image_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(SourceError, match=r"a\.png is no image"):
        list(open_source(tmp_path / "a.png"))


def test_a_folder_of_hidden_files_holds_no_images(tmp_path):
    (tmp_path / "._a.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match="no images"):
        open_source(tmp_path)
    (tmp_path / ".named.jpg").write_bytes(jpeg.encode(np.zeros((8, 8, 3), np.uint8)))
    assert len(list(open_source(tmp_path / ".named.jpg"))) == 1  # who names it means it


def test_a_camera_that_is_not_there():
    assert isinstance(open_source(0), Camera)
    with pytest.raises(SourceError, match="cannot open camera 999"):
        list(open_source(999))


@pytest.mark.parametrize("wrong", [b"jpeg", np.zeros((4, 4, 3), np.uint8), Frame(data=b""), 1.5, None, True])
def test_what_is_no_source(wrong):
    with pytest.raises(TypeError):
        open_source(wrong)


def test_an_async_iterator_needs_the_async_client():
    async def frames():
        yield b""

    with pytest.raises(TypeError, match="AsyncClient"):
        open_source(frames())


def test_a_stack_of_frames_is_a_source():
    frames = open_source(np.zeros((5, 8, 8, 3), np.uint8))
    assert [as_frame(item).image.shape for item in frames] == [(8, 8, 3)] * 5


def test_sources_through_the_client(serve, video, tmp_path, images):
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg.encode(images[index]))
    server = serve()
    with Client(server.target) as client:
        assert [result.image.shape for result in client.stream(video)] == [(48, 64, 3)] * 12
        assert [result.name for result in client.stream(tmp_path)] == ["0.jpg", "1.jpg", "2.jpg"]
        assert [result.ok for result in client.stream(jpeg.encode(image) for image in images)] == [True] * 10
    assert server.records[1].frames[0].data == (tmp_path / "0.jpg").read_bytes()


def test_paced_is_not_faster_than_asked():
    start = time.monotonic()
    frames = list(paced([b"x"] * 6, fps=50))
    assert time.monotonic() - start >= 5 / 50
    assert np.diff([frame.capture_time for frame in frames]).min() >= 0 and frames[0].capture_time > 1e9


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3)), fill=st.integers(0, 255)
    )
)
def test_jpeg_keeps_size_and_mean_colour(image):
    decoded = jpeg.decode(jpeg.encode(image, quality=100))
    assert decoded.shape == image.shape
    assert abs(float(decoded.mean()) - float(image.mean())) < 24


def test_jpeg_takes_rgb_and_gray_and_views():
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 200  # red
    decoded = jpeg.decode(jpeg.encode(image[::-1, ::2]))
    assert decoded.shape == (16, 8, 3) and decoded[0, 0, 0] > 180 and decoded[0, 0, 2] < 30
    assert jpeg.decode(jpeg.encode(image[..., 0])).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 70000), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_that_are_no_images(wrong):
    with pytest.raises(SourceError):
        jpeg.encode(wrong)


def test_without_pyav_videos_are_refused_and_images_are_not(tmp_path, monkeypatch):
    (tmp_path / "1.jpg").write_bytes(jpeg.encode(np.zeros((16, 16, 3), np.uint8)))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceError, match="pip install av"):
        VideoFile(tmp_path / "drive.mp4")
    assert [frame.name for frame in open_source(tmp_path)] == ["1.jpg"]


def test_the_client_is_imported_without_pyav():
    program = "import sys; sys.modules['av'] = None; import tilestream_client.cli, tilestream_client.load"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
