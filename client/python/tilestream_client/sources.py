"""Where frames come from: video files, folders of images, cameras, and any iterator.

A source is an iterable of frames; those of this module also know their ``fps`` and ``length`` where
there is something to know. They open what they read when they are iterated and close it afterwards.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from tilestream_client import jpeg
from tilestream_client.errors import SourceError
from tilestream_client.libav import libav, libav_failures

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


_FRONT_BYTES = 4096  # in which a JPEG begins, if it does, whatever is in front of it


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame to send. Give ``image`` or ``data``; plain arrays and bytes do where nothing else is to say.

    image: uint8 [H, W, 3] RGB or [H, W] gray, encoded to JPEG on the way. data: a JPEG, sent as it is.
    name: comes back in ``Result.name``. capture_time: seconds since the Unix epoch, 0 = unknown.
    force_key_frame: compute this frame in full. problem: what is wrong with it as far as is known here; comes
    back as the ``detail`` of its result if the server finds it INVALID, too.
    """

    image: npt.NDArray[np.uint8] | None = None
    data: bytes | None = None
    name: str = ""
    capture_time: float = 0.0
    force_key_frame: bool = False
    problem: str = ""

    def encoded(self, quality: int = jpeg.DEFAULT_QUALITY) -> bytes:
        """The JPEG to send. Raises SourceError where there is none to be had."""
        if (self.image is None) == (self.data is None):
            raise SourceError("a Frame needs either an image or data")
        return jpeg.encode(self.image, quality) if self.image is not None else bytes(self.data or b"")


FrameLike: TypeAlias = Frame | npt.NDArray[np.uint8] | bytes
Frames: TypeAlias = str | os.PathLike[str] | int | Iterable[FrameLike]
AsyncFrames: TypeAlias = Frames | AsyncIterable[FrameLike]


class VideoFile:
    """Every frame of a video file, decoded to RGB.

    fps: frames per second, None where the file does not say. length: how many, perhaps an estimate;
    None where unknown. size: (width, height). damaged: packets that could not be decoded, once iterated.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Look at the file. Raises SourceError where it is missing or no video, or PyAV is not installed."""
        self.path = Path(path)
        self.damaged = 0
        with self._open() as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            self.fps: float | None = float(rate) if rate else None
            self.size: tuple[int, int] = (stream.width, stream.height)
            self.length: int | None = stream.frames or self._estimated_length(container)

    def __iter__(self) -> Iterator[Frame]:
        """Decode from the start; a damaged packet (the end of a cut-off recording) is counted and skipped."""
        self.damaged = 0
        invalid = libav().error.InvalidDataError
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                try:
                    decoded = packet.decode()
                except invalid:
                    self.damaged += 1
                    continue
                for frame in decoded:
                    yield Frame(image=frame.to_ndarray(format="rgb24"))

    def _open(self) -> Any:
        try:
            container = libav().open(str(self.path))
        except libav_failures(OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"cannot open {self.path}: {reason}") from error
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.path} holds no video")
        return container

    def _estimated_length(self, container: Any) -> int | None:
        if not container.duration or not self.fps:
            return None
        return round(container.duration / libav().time_base * self.fps) or None


class ImageFolder:
    """The images of a folder (or a single one) in natural order: 2.jpg before 10.jpg.

    JPEGs are sent byte for byte, other images are encoded. Names that begin with a dot are left out, such as
    the resource forks that macOS leaves beside images. fps is None, length the number of images.
    """

    fps: float | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """List the files. Raises SourceError where there are none."""
        self.path = Path(path)
        try:
            found = [each for each in self.path.iterdir() if not each.name.startswith(".")]
        except NotADirectoryError:
            found = [self.path]
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        images = (file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and not file.is_dir())
        self.files = sorted(images, key=_natural_order)
        if not self.files:
            raise SourceError(f"{self.path} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
        self.length: int | None = len(self.files)

    def __iter__(self) -> Iterator[Frame]:
        """One Frame per file, named after it.

        One of a folder that is no image is sent as it is, or an empty frame where it cannot be read: it
        gets its INVALID result, and the others go on. A single file like that raises SourceError.
        """
        alone = self.files == [self.path]
        for file in self.files:
            frame = _image_file(file)
            if alone and frame.problem:
                raise SourceError(frame.problem)
            yield frame


class Camera:
    """A camera of this machine by its index, until it stops or the stream is closed."""

    length: int | None = None

    def __init__(self, index: int) -> None:
        """Only notes the index; the camera is opened when frames are asked for."""
        self.index = index
        self.fps: float | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they come, with the time of capture. Raises SourceError where it is missing or stops."""
        capture = cv2.VideoCapture(self.index)
        try:
            if not capture.isOpened():
                raise SourceError(f"cannot open camera {self.index}")
            self.fps = capture.get(cv2.CAP_PROP_FPS) or None
            while True:
                done, pixels = capture.read()
                if not done:
                    raise SourceError(f"camera {self.index} stopped")
                yield Frame(image=jpeg.to_rgb(pixels), capture_time=time.time())
        finally:
            capture.release()


def open_source(frames: Frames) -> Iterable[FrameLike]:
    """What ``client.stream()`` was given, as an iterable of frames.

    A path is a video file, an image or a folder of images; a number is a camera. Raises SourceError
    where the path leads nowhere and TypeError for what is no source at all.
    """
    if isinstance(frames, str | os.PathLike):
        path = Path(frames)
        if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageFolder(path)
        return VideoFile(path)
    if isinstance(frames, int | np.integer) and not isinstance(frames, bool):
        return Camera(int(frames))
    if isinstance(frames, bytes | bytearray | Frame) or (isinstance(frames, np.ndarray) and frames.ndim < 4):
        raise TypeError("a single frame is no stream; put it into a list")
    if not isinstance(frames, Iterable):
        hint = "; use AsyncClient for async iterators" if isinstance(frames, AsyncIterable) else ""
        raise TypeError(f"frames cannot be read from {type(frames).__name__}{hint}")
    return frames


def input_files(source: Iterable[FrameLike]) -> list[Path]:
    """Files and folders that a source of this module reads."""
    if isinstance(source, ImageFolder):
        return [source.path, *source.files]
    return [source.path] if isinstance(source, VideoFile) else []


def _image_file(file: Path) -> Frame:
    """A JPEG as it is, another image decoded; with its ``problem`` where it is none."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return Frame(data=b"", name=file.name, problem=f"cannot read {file}: {error.strerror}")
    if jpeg.is_jpeg(data):
        return Frame(data=data, name=file.name)
    image = jpeg.decode(data)
    if image is not None and max(image.shape) <= jpeg.MAX_SIDE:
        return Frame(image=image, name=file.name)
    # The server may take a JPEG that OpenCV does not; of anything else it needs no more to say so.
    sent = data if jpeg.START in data[:_FRONT_BYTES] else data[:_FRONT_BYTES]
    why = "no image that can be read" if image is None else "too large for a JPEG"
    return Frame(data=sent, name=file.name, problem=f"{file} is {why}")


def as_frame(item: object) -> Frame:
    """One item of a source as a Frame. Raises SourceError for what is none."""
    if isinstance(item, Frame):
        return item
    if isinstance(item, bytes | bytearray | memoryview):
        return Frame(data=bytes(item))
    if isinstance(item, np.ndarray):
        return Frame(image=item)
    raise SourceError(f"a frame must be a uint8 array, JPEG bytes or a Frame, not {type(item).__name__}")


def paced(frames: Iterable[FrameLike], fps: float) -> Iterator[Frame]:
    """The frames at no more than ``fps`` per second, stamped with the time; lost time is not caught up."""
    due = time.monotonic()
    for item in frames:
        frame = as_frame(item)
        time.sleep(max(0.0, due - time.monotonic()))
        yield replace(frame, capture_time=time.time())
        due = max(due + 1 / fps, time.monotonic() - 1 / fps)


def timed(frames: Iterable[FrameLike], fps: float) -> Iterator[Frame]:
    """Frames of a file with times of capture as at a frame rate, from now on, where they have none."""
    begin = time.time()
    for index, item in enumerate(frames):
        frame = as_frame(item)
        yield frame if frame.capture_time else replace(frame, capture_time=begin + index / fps)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Numbers within a name compare as numbers."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
