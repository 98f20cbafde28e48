"""The load generator: many cameras that send by the clock, whether the server keeps up or not.

Open loop: a frame is due at its time. One that cannot be sent yet waits in a backlog of bounded
length; when that is full the oldest is skipped. Latency counts from when a frame was due, so a server
that stalls is not excused for the frames that it kept from being sent.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tilestream_client import jpeg
from tilestream_client.async_client import AsyncClient
from tilestream_client.async_stream import AsyncStream
from tilestream_client.config import MaskEncoding, QueuePolicy, StreamOptions
from tilestream_client.errors import SourceError, TilestreamError
from tilestream_client.overlay import fit
from tilestream_client.reconnect import DEFAULT_RECONNECT_TIMEOUT
from tilestream_client.sources import Frame, as_frame, open_source
from tilestream_client.stats import Tally

_CLIP_FRAMES = 120
_CLIP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send.

    clip: JPEGs that every camera sends forth and back. sessions: cameras. fps: frames per second of each.
    seconds: how long frames are due, of which the first ``warmup`` are sent but not counted. backlog: frames
    of one camera that may wait to be sent. late_after: seconds from due to answer after which a frame counts
    as late. patience: seconds to wait for the last answers. reconnect_timeout: see Client.stream.
    first_camera: number of the first camera, where several processes load one server. stagger: frames of the
    clip that a camera is ahead of the one before. The rest are the stream's options, see StreamConfig.
    """

    clip: Sequence[bytes]
    sessions: int = 1
    fps: float = 15.0
    seconds: float = 10.0
    warmup: float = 0.0
    backlog: int = 4
    late_after: float = 0.1
    patience: float = 10.0
    reconnect_timeout: float = DEFAULT_RECONNECT_TIMEOUT
    first_camera: int = 0
    stagger: int = 0
    model: str = ""
    mask_encoding: MaskEncoding | str = MaskEncoding.PNG
    policy: QueuePolicy | str = QueuePolicy.DROP_OLDEST
    frames_in_flight: int = 0
    block_budget: float = 0.0

    def options(self, camera_id: str) -> StreamOptions:
        """The stream's options for one camera."""
        return StreamOptions(
            model=self.model,
            mask_encoding=self.mask_encoding,
            queue_policy=self.policy,
            frames_in_flight=self.frames_in_flight,
            block_budget=self.block_budget,
            camera_id=camera_id,
        )


@dataclass(slots=True)
class LoadReport:
    """What came of it, without the warm-up. due = frames sent + skipped.

    ``served``: per session, frames answered OK per frame that the plan has for it. ``errors``: one line per
    session that failed.
    """

    sessions: int
    seconds: float = 0.0
    due: int = 0
    skipped: int = 0
    late: int = 0
    reconnects: int = 0
    served: list[float] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    errors: list[str] = field(default_factory=list)

    @property
    def fairness(self) -> float:
        """Jain's index of what sessions got of what they wanted: 1 = all alike, 1 / sessions: one has all."""
        squares = sum(share * share for share in self.served)
        return sum(self.served) ** 2 / (len(self.served) * squares) if squares else 1.0

    def summary(self) -> dict[str, Any]:
        """As it is written to JSON."""
        return {
            **self.tally.report(self.seconds),
            "frames_due": self.due,
            "frames_skipped": self.skipped,
            "frames_late": self.late,
            "block_drop_rate": round(self.tally.block_drop_rate, 4),
            "agreement": None if self.tally.agreement is None else round(self.tally.agreement, 4),
            "key_frames": self.tally.key_frames,
            "server_ms": self.tally.server.milliseconds(),
            "fairness_jain": round(self.fairness, 4),
            "reconnects": self.reconnects,
            "sessions": self.sessions,
            "sessions_failed": len(self.errors),
            "errors": sorted(set(self.errors)),
            "seconds": round(self.seconds, 3),
        }


async def run_load(
    target: str,
    plan: LoadPlan,
    *,
    report: LoadReport | None = None,
    stop: asyncio.Event | None = None,
    **connection: Any,
) -> LoadReport:
    """Run all cameras of the plan in this event loop.

    report: filled while it runs, for a display. stop: set it to end early; what was sent is still waited
    for. connection: further arguments of AsyncClient. A session that fails is noted, the others go on.
    """
    report = report or LoadReport(plan.sessions)
    stop = stop or asyncio.Event()
    start = time.monotonic()
    cameras = [_Camera(index, plan, report, start, stop) for index in range(plan.sessions)]
    await asyncio.gather(*(camera.run(target, connection) for camera in cameras))
    report.seconds = max(0.0, max(camera.over for camera in cameras) - start - plan.warmup)
    return report


class _Camera:
    """One session of the load."""

    def __init__(
        self, index: int, plan: LoadPlan, report: LoadReport, start: float, stop: asyncio.Event
    ) -> None:
        number = plan.first_camera + index
        self._name = f"load-{number}"
        self._place = number * plan.stagger  # of its first frame in the clip
        self._plan = plan
        self._report = report
        # Spread within one frame's time: real cameras do not fire together.
        self._start = start + index / (plan.sessions * plan.fps)
        self._end = start + plan.seconds
        self._stop = stop
        self._due_times: deque[float] = deque()  # of the frames handed over and not answered, in order
        self._handed = 0
        self._unheard = 0  # of these, due while warming up
        self._answered = 0
        self._counts_from = math.ceil(plan.warmup * plan.fps)  # index of the first frame that is counted
        self._planned = self._frames_due_by(self._end) - self._counts_from
        self._next = 0  # index of the first frame that was neither handed over nor skipped
        self.over = start  # when the last frame was due or answered

    async def run(self, target: str, connection: dict[str, Any]) -> None:
        """Send until the end and count the answers."""
        client = AsyncClient(target, own_connection=True, **connection)
        stream = client.stream(
            self._frames(), reconnect_timeout=self._plan.reconnect_timeout, **self._plan.options(self._name)
        )
        answers = asyncio.create_task(self._count_answers(stream))
        try:
            await self._wait_until_sent(answers)
            await asyncio.wait((answers,), timeout=self._plan.patience)
            if answers.done():
                answers.result()
        except TilestreamError as error:
            self._report.errors.append(str(error))
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            await client.close()
            self._settle(stream.frames_sent)
            self._report.reconnects += stream.reconnects

    def _settle(self, sent: int) -> None:
        """Count what was due and never left: the frame read ahead, and those never asked for."""
        never_asked = max(0, self._frames_due_by(self._end) - max(self._next, self._counts_from))
        counted = max(0, sent - self._unheard)
        self._report.due += never_asked
        self._report.skipped += never_asked + self._handed - self._unheard - counted
        self._report.tally.sent += counted
        if self._planned > 0:
            self._report.served.append(self._answered / self._planned)

    async def _wait_until_sent(self, answers: asyncio.Task[None]) -> None:
        """Until no frame is due any more; that is now if the session is over or all shall stop."""
        stopped = asyncio.create_task(self._stop.wait())
        try:
            left = max(0.0, self._end - time.monotonic())
            await asyncio.wait((answers, stopped), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._end = min(self._end, time.monotonic())
            self.over = self._end

    async def _count_answers(self, stream: AsyncStream) -> None:
        async for result in stream:
            self.over = time.monotonic()
            due = self._due_times.popleft()
            if due < self._start + self._counts_from / self._plan.fps:
                continue
            latency = self.over - due
            self._report.tally.add(result, latency)
            self._answered += result.ok
            self._report.late += result.ok and latency > self._plan.late_after

    async def _frames(self) -> AsyncIterator[Frame]:
        """Each frame when it is due; asked late, the oldest of the backlog; what is beyond is skipped."""
        plan = self._plan
        while (due := self._start + self._next / plan.fps) < self._end:
            wait = due - time.monotonic()
            if wait > 0:
                await self._sleep(wait)
                continue
            waiting = self._frames_due_by(min(self._end, time.monotonic())) - self._next
            skip = max(0, waiting - max(1, plan.backlog))
            index = self._next + skip
            self._next = index + 1
            if index < self._counts_from:
                self._unheard += 1
            else:
                counted = min(skip, index - self._counts_from)
                self._report.skipped += counted
                self._report.due += counted + 1
            self._due_times.append(self._start + index / plan.fps)
            self._handed += 1
            yield Frame(data=_forth_and_back(plan.clip, self._place + index), capture_time=time.time())

    def _frames_due_by(self, moment: float) -> int:
        """How many frames are due before ``moment``."""
        return max(0, math.ceil((moment - self._start) * self._plan.fps))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass


def video_clip(path: Path, size: tuple[int, int] | None = None, frames: int = _CLIP_FRAMES) -> list[bytes]:
    """The first frames of a video (or folder of images) as JPEGs, scaled to (width, height) where given.

    At most ``frames`` and 64 MiB of them. Raises SourceError where there are none.
    """
    clip: list[bytes] = []
    total = 0
    for item in islice(open_source(path), frames):
        frame = as_frame(item)
        data = frame.encoded()
        if size is not None:
            image = frame.image if frame.image is not None else jpeg.decode(data)
            data = data if image is None else jpeg.encode(fit(image, *size))
        total += len(data)
        if clip and total > _CLIP_BYTES:
            break
        clip.append(data)
    if not clip:
        raise SourceError(f"{path} holds no frames")
    return clip


def pattern_clip(size: tuple[int, int], frames: int = 60) -> list[bytes]:
    """A made-up drive of (width, height): a ground that comes nearer, a sky, blocks that pass. JPEGs."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = height / np.maximum(rows - height * 0.45, 1.0)
    clip = []
    for step in range(frames):
        stripes = ((depth * 3 + step * 0.25) % 1 < 0.5) & (np.abs(columns - width / 2) < width / 2 / depth)
        image = np.empty((height, width, 3), np.uint8)
        image[:] = np.where((rows > height * 0.45)[..., None], (92, 88, 96), (150, 180, 215))
        image[stripes & (rows > height * 0.45)] = (210, 205, 190)
        for block in range(6):
            left = int((block * width / 5 - step * (2 + block % 3)) % (width * 1.2) - width * 0.1)
            top, bottom = int(height * (0.2 + 0.03 * block)), int(height * 0.55)
            corner = (left + width // 10, bottom)
            cv2.rectangle(image, (left, top), corner, (70 + 25 * block, 60, 160 - 20 * block), -1)
        clip.append(jpeg.encode(image))
    return clip


def _forth_and_back(clip: Sequence[bytes], index: int) -> bytes:
    """Frame ``index`` of the clip played forth and back for ever: no jump where it is repeated."""
    period = max(1, 2 * len(clip) - 2)
    place = index % period
    return clip[min(place, period - place) if place >= len(clip) else place]
