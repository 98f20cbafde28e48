"""Video files: decoded frame by frame, or their packets as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilestream_client.access_units import START, is_key_unit, parameter_sets
from tilestream_client.config import FrameCodec
from tilestream_client.errors import SourceError
from tilestream_client.frames import Frame
from tilestream_client.libav import libav, libav_failures

CODECS = {"h264": FrameCodec.H264, "hevc": FrameCodec.H265}
"""What can be sent as it is, by libav's name."""
_TO_ANNEX_B = {FrameCodec.H264: "h264_mp4toannexb", FrameCodec.H265: "hevc_mp4toannexb"}


class VideoFile:
    """Every frame of a video file, decoded to RGB and turned upright.

    fps: frames per second, None where the file does not say. length: how many, perhaps an estimate;
    None where unknown. size: (width, height), upright. rotation: degrees clockwise to turn pictures
    by, as the file says. codec: what it can be sent as without decoding it, None: nothing. damaged:
    packets that could not be decoded, once iterated.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Look at the file. Raises SourceError where it is missing or no video, or PyAV is not installed."""
        self.path = Path(path)
        self.damaged = 0
        with open_video(str(self.path)) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            self.fps: float | None = float(rate) if rate else None
            self.length: int | None = stream.frames or self._estimated_length(container)
            self.codec = CODECS.get(stream.codec_context.name)
            self.rotation = _rotation(container)
            size = (stream.width, stream.height)
            self.size: tuple[int, int] = size[::-1] if self.rotation % 180 else size

    def __iter__(self) -> Iterator[Frame]:
        """Decode from the start; a damaged packet (the end of a cut-off recording) is counted and skipped."""
        self.damaged = 0
        with open_video(str(self.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            clock = FileClock(self.path, container)
            for packet in container.demux(stream):
                for frame in self._decoded(packet):
                    image = turned(frame.to_ndarray(format="rgb24"), self.rotation)
                    yield Frame(image=image, capture_time=clock.at(frame.pts, frame.time_base))

    def packets(self, *, with_images: bool = False) -> VideoPackets:
        """The same file, to be sent as it is. Raises SourceError where that cannot be."""
        return VideoPackets(self, with_images=with_images)

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return packet.decode()
        except libav().error.InvalidDataError:
            self.damaged += 1
            return []

    def _estimated_length(self, container: Any) -> int | None:
        if not container.duration or not self.fps:
            return None
        return round(container.duration / libav().time_base * self.fps) or None


class VideoPackets:
    """The packets of a video file as access units: one frame each, in the order in which they are decoded.

    frame_codec, rotation: what a stream of them has to be opened with; ``client.stream`` does that by itself.
    reorders: pictures are shown in another order than that of the frames (B pictures), which ``capture_time``
    tells. with_images: each frame has its picture, too, for ``Result.image``: it is decoded here as well.
    """

    damaged = 0

    def __init__(self, video: VideoFile | str | os.PathLike[str], *, with_images: bool = False) -> None:
        """Raises SourceError where the file is missing, no video, or neither H.264 nor H.265."""
        video = video if isinstance(video, VideoFile) else VideoFile(video)
        if video.codec is None:
            raise SourceError(f"{video.path} is no H.264 or H.265: it has to be decoded and sent as JPEG")
        self.path, self.fps, self.length, self.size = video.path, video.fps, video.length, video.size
        self.frame_codec: FrameCodec = video.codec
        self.rotation = video.rotation
        self._with_images = with_images
        with open_video(str(self.path)) as container:
            self.reorders = bool(container.streams.video[0].codec_context.has_b_frames)

    def __iter__(self) -> Iterator[Frame]:
        """One frame per packet, from the start of the file."""
        with open_video(str(self.path)) as container:
            clock = FileClock(self.path, container)
            units = access_units(container, self.frame_codec)
            frames = ((unit, clock.at(packet.pts, packet.time_base)) for packet, unit in units)
            bare = (Frame(data=unit, capture_time=time) for unit, time in frames)
            yield from _pictured(bare, self.frame_codec, self.rotation) if self._with_images else bare


class FileClock:
    """When the frames of a file were taken: by their own times, from its creation (else last change) on."""

    def __init__(self, path: Path, container: Any) -> None:
        created = container.metadata.get("creation_time", "")
        try:
            self._begin = datetime.fromisoformat(created).timestamp()
        except ValueError:
            self._begin = path.stat().st_mtime
        self._first: float | None = None

    def at(self, pts: int | None, time_base: Any) -> float:
        """Seconds since the Unix epoch; 0 for a frame whose time the file does not tell."""
        if pts is None or time_base is None:
            return 0.0
        seconds = float(pts * time_base)
        self._first = seconds if self._first is None else self._first
        return self._begin + seconds - self._first


def open_video(url: str, options: dict[str, str] | None = None, timeout: float | None = None) -> Any:
    """A container with video in it. Raises SourceError, also where PyAV is not installed."""
    try:
        container = libav().open(url, options=options or {}, timeout=timeout)
    except libav_failures(OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot open {url}: {reason}") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{url} holds no video")
    return container


def access_units(container: Any, codec: FrameCodec) -> Iterator[tuple[Any, bytes]]:
    """The packets of a container's video, and each as an access unit with parameter sets in band."""
    stream = container.streams.video[0]
    to_annex_b = libav().bitstream.BitStreamFilterContext(_TO_ANNEX_B[codec], stream)
    extra = bytes(stream.codec_context.extradata or b"")
    sets = parameter_sets(codec, extra) if START in extra[:4] else b""  # else the filter puts them in
    for packet in container.demux(stream):
        for out in to_annex_b.filter(packet) if packet.size else ():
            unit = bytes(out)
            own = parameter_sets(codec, unit)
            if not own and is_key_unit(codec, unit):
                unit = sets + unit  # so that decoding can begin here
            sets = own or sets
            yield out, unit


def turned(image: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3], turned by 0, 90, 180 or 270 degrees clockwise."""
    return np.ascontiguousarray(np.rot90(image, -rotation // 90)) if rotation else image


def _pictured(frames: Iterator[Frame], codec: FrameCodec, rotation: int) -> Iterator[Frame]:
    """Frames with their pictures beside them; without where there is none."""
    av = libav()
    names = {ours: name for name, ours in CODECS.items()}
    decoder = av.CodecContext.create(names[codec], "r")
    held: dict[int, Frame] = {}
    pictures: dict[int, npt.NDArray[np.uint8]] = {}

    def feed(packet: Any) -> None:
        try:
            for picture in decoder.decode(packet):
                pictures[picture.pts] = turned(picture.to_ndarray(format="rgb24"), rotation)
        except av.error.FFmpegError:
            pass  # the server says what is wrong with it

    for number, frame in enumerate(frames):
        packet = av.Packet(frame.data)
        packet.pts = number
        held[number] = frame
        feed(packet)
        while held and (min(held) in pictures or len(held) > _MOST_HELD):
            first = min(held)
            yield replace(held.pop(first), image=pictures.pop(first, None))
    feed(None)
    for number, frame in held.items():
        yield replace(frame, image=pictures.pop(number, None))


_MOST_HELD = 32  # frames: more than any order of pictures needs


def _rotation(container: Any) -> int:
    """Degrees clockwise, by the display matrix of the first frame; 0 where there is none."""
    try:
        frame = next(container.decode(container.streams.video[0]), None)
    except libav_failures(ValueError):
        return 0
    counterclockwise = getattr(frame, "rotation", 0) if frame is not None else 0
    return round(-counterclockwise / 90) * 90 % 360
