"""Where frames come from: video files, live video, folders of images, cameras, and any iterator.

A source is an iterable of frames; those of this module also know their ``fps`` and ``length`` where
there is something to know. They open what they read when they are iterated and close it afterwards.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tilestream_client import jpeg
from tilestream_client.config import StreamOptions
from tilestream_client.errors import SourceError
from tilestream_client.frames import AsyncFrames, Frame, FrameLike, Frames, as_frame
from tilestream_client.live import LiveVideo, is_url
from tilestream_client.video import VideoFile, VideoPackets

__all__ = [
    "AsyncFrames",
    "Camera",
    "Frame",
    "FrameLike",
    "Frames",
    "ImageFolder",
    "LiveVideo",
    "VideoFile",
    "VideoPackets",
    "are_reordered",
    "as_frame",
    "implied_options",
    "input_files",
    "open_source",
    "paced",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})

_FRONT_BYTES = 4096  # in which a JPEG begins, if it does, whatever is in front of it


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

    A path is a video file, an image or a folder of images, a URL live video; a number is a camera. Raises
    SourceError where the path leads nowhere and TypeError for what is no source at all.
    """
    if isinstance(frames, str) and is_url(frames):
        return LiveVideo(frames)
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


def implied_options(source: object) -> StreamOptions:
    """How a stream of this source has to be opened, where the source knows."""
    codec = getattr(source, "frame_codec", None)
    if codec is None:
        return {}
    return {"frame_codec": codec, "rotation": getattr(source, "rotation", 0)}


def are_reordered(source: object) -> bool:
    """Whether pictures of a video source may be shown in another order than that of its frames."""
    return bool(getattr(source, "reorders", True))


def input_files(source: Iterable[FrameLike]) -> list[Path]:
    """Files and folders that a source of this module reads."""
    if isinstance(source, ImageFolder):
        return [source.path, *source.files]
    return [source.path] if isinstance(source, VideoFile | VideoPackets) else []


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


def paced(frames: Iterable[FrameLike], fps: float) -> Iterator[Frame]:
    """The frames at no more than ``fps`` per second; lost time is not caught up.

    Those without a time of capture are stamped with the time.
    """
    due = time.monotonic()
    for item in frames:
        frame = as_frame(item)
        time.sleep(max(0.0, due - time.monotonic()))
        yield replace(frame, capture_time=frame.capture_time or time.time())
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
