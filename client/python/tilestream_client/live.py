"""Live video by its address: RTSP, MJPEG over HTTP, and whatever else PyAV opens."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from tilestream_client.access_units import is_key_unit
from tilestream_client.config import FrameCodec
from tilestream_client.errors import SourceError
from tilestream_client.frames import Frame
from tilestream_client.libav import libav, libav_failures
from tilestream_client.video import CODECS, access_units, open_video

DEFAULT_TIMEOUT = 10.0  # seconds that a camera may be silent
_URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 8.0  # seconds until it is asked again
_JPEGS_AS_THEY_ARE = ("mpjpeg", "mjpeg", "rtsp")  # containers whose pictures are whole JPEGs


def is_url(text: str) -> bool:
    """Whether it names live video rather than a file."""
    return bool(_URL.match(text)) and not text.lower().startswith("file:")


class LiveVideo:
    """The frames of an address as they come, stamped with the time; a camera that is lost is opened again.

    fps: as the camera says, None where it does not. codec: what its packets can be sent as, None: nothing but
    JPEG. reconnects: how often it was opened again. ``timeout``: seconds that it may be silent, and
    ``reconnect_timeout``: for which it may be gone, until that is an error.
    """

    length: int | None = None
    rotation = 0

    def __init__(
        self, url: str, *, timeout: float = DEFAULT_TIMEOUT, reconnect_timeout: float = 60.0
    ) -> None:
        """Open it, to see what it sends. Raises SourceError where that cannot be."""
        self.url = url
        self.reconnects = 0
        self._timeout, self._reconnect_timeout = timeout, reconnect_timeout
        with self._open() as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            self.fps: float | None = float(rate) if rate else None
            self.codec = CODECS.get(stream.codec_context.name)

    def __iter__(self) -> Iterator[Frame]:
        """Frames, decoded unless they are JPEGs already. Raises SourceError where it stays away."""
        return self._lasting(_frames)

    def packets(self, *, with_images: bool = False) -> LivePackets:
        """The same, to be sent as it is. Raises SourceError where it is neither H.264 nor H.265."""
        return LivePackets(self)

    def _open(self) -> Any:
        options = {"rtsp_transport": "tcp"} if self.url.lower().startswith("rtsp") else {}
        return open_video(self.url, options, self._timeout)

    def _lasting(self, read: Callable[[Any], Iterator[Frame]]) -> Iterator[Frame]:
        """What ``read`` makes of one connection after the other."""
        last, delay = time.monotonic(), _FIRST_DELAY
        while True:
            try:
                with self._open() as container:
                    for frame in read(container):
                        last, delay = time.monotonic(), _FIRST_DELAY
                        yield frame
                problem = f"{self.url} ended"
            except SourceError as error:
                problem = str(error)
            except libav_failures(OSError) as error:
                problem = f"{self.url}: {getattr(error, 'strerror', None) or error}"
            if time.monotonic() + delay - last > self._reconnect_timeout:
                raise SourceError(f"{problem}; it did not come back within {self._reconnect_timeout:g} s")
            time.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
            self.reconnects += 1


class LivePackets:
    """The packets of live video as access units, from the first key unit on; see VideoPackets."""

    length: int | None = None
    reorders = True
    rotation = 0

    def __init__(self, video: LiveVideo) -> None:
        """Raises SourceError where it is neither H.264 nor H.265."""
        if video.codec is None:
            raise SourceError(f"{video.url} is no H.264 or H.265: it has to be decoded and sent as JPEG")
        self.frame_codec: FrameCodec = video.codec
        self.fps = video.fps
        self._video = video

    def __iter__(self) -> Iterator[Frame]:
        """One frame per packet. Raises SourceError where the camera stays away."""
        return self._video._lasting(self._units)

    def _units(self, container: Any) -> Iterator[Frame]:
        begun = False
        if CODECS.get(container.streams.video[0].codec_context.name) is not self.frame_codec:
            raise SourceError(f"{self._video.url} changed its codec")
        for _, unit in access_units(container, self.frame_codec):
            begun = begun or is_key_unit(self.frame_codec, unit)
            if begun:
                yield Frame(data=unit, capture_time=time.time())


def _frames(container: Any) -> Iterator[Frame]:
    stream = container.streams.video[0]
    as_they_are = stream.codec_context.name == "mjpeg" and container.format.name in _JPEGS_AS_THEY_ARE
    for packet in container.demux(stream):
        if as_they_are:
            if packet.size:
                yield Frame(data=bytes(packet), capture_time=time.time())
            continue
        try:
            decoded = packet.decode()
        except libav().error.InvalidDataError:
            continue  # a camera's next pictures are of use again
        for frame in decoded:
            yield Frame(image=frame.to_ndarray(format="rgb24"), capture_time=time.time())
