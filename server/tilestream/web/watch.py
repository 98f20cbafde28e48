"""The latest picture of a camera, kept while somebody looks at it and not a moment longer.

Nothing is queued: of the frames that pass one is followed to its labels, at most so many a second, and it
takes the place of the one before. Who is slow gets fewer of them. Memory is two frames per camera, however
many frames are under way and however many people look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tilestream.api.live_sessions import LiveSession
from tilestream.clock import Clock, Timer
from tilestream.label_runs import LabelRuns
from tilestream.messages import BinAccount, FrameStats, ModelInfo, Outcome, Picture, UInt8Array

FASTEST = 0.2  # seconds between two pictures of a camera: enough to see what is going on
SHARE = 0.05
"""Of a core: what making the pictures of one camera may take."""
LEASE = 3.0  # seconds that a camera is watched on after the last look at it


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A frame and its labels.

    ``frame``: as the camera sent it. ``pixels``: uint8 [H, W, 3] RGB at compute size, where they are not with
    the engine alone. ``size``: (width, height) of the mask that the client gets. ``at``: when the labels
    came, monotonic seconds.
    """

    frame_id: int
    frame: bytes
    pixels: UInt8Array | None
    labels: UInt8Array | LabelRuns
    size: tuple[int, int]
    model: ModelInfo
    at: float
    stats: FrameStats | None = None
    bins: BinAccount | None = None


@dataclass(slots=True)
class _Followed:
    """The frame that is going to be the next picture."""

    frame_id: int
    frame: bytes
    pixels: UInt8Array | None = None


class CameraWatch:
    """Follows frames of a session (:class:`FrameTap`) while somebody waits for a picture.

    ``on_idle``: called when nobody has looked for :data:`LEASE` seconds. All methods run on the event loop.
    """

    def __init__(self, live: LiveSession, clock: Clock, on_idle: Callable[[], object]) -> None:
        self._live, self._clock, self._on_idle = live, clock, on_idle
        self._followed: _Followed | None = None
        self._latest: Snapshot | None = None
        self._news = asyncio.Event()  # another one for each picture
        self._next = clock.now()  # when a frame may be followed
        self._bins_until = clock.now()
        self._waiting = self._looking = 0
        self._lease: Timer | None = None
        self.over = False
        live.pipeline.tap = self

    @contextmanager
    def look(self, *, bins: bool) -> Iterator[None]:
        """Somebody looks meanwhile. ``bins``: with what was computed of each bin."""
        self._looking += 1
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None
        if bins:
            self._bins_until = self._clock.now() + LEASE
        try:
            yield
        finally:
            self._looking -= 1
            if not self._looking and not self.over:
                self._lease = self._clock.call_at(self._clock.now() + LEASE, self.end)

    async def newer(self, than: int) -> Snapshot | None:
        """A picture after frame ``than`` (-1: any), as soon as there is one; None: the session is over."""
        while not self.over:
            if self._latest is not None and self._latest.frame_id > than:
                return self._latest
            self._waiting += 1
            try:
                await self._news.wait()
            finally:
                self._waiting -= 1
        return None

    def took(self, seconds: float) -> None:
        """Making the latest picture took so much time of a core: the next one has to be worth it."""
        self._next = max(self._next, self._clock.now() + seconds / SHARE)

    def end(self) -> None:
        """Nobody looks, or there is nothing to see: follow no more frames. Idempotent."""
        if not self.over:
            self.over = True
            self._followed = self._latest = None
            self._live.pipeline.tap = None
            self._news.set()
            self._on_idle()

    # What the pipeline tells

    def accepted(self, frame_id: int, data: bytes) -> None:
        """Follow the frame, if it is time for a picture and somebody waits for one."""
        now = self._clock.now()
        if self._followed is None and self._waiting and now >= self._next:
            self._followed = _Followed(frame_id, data)
            self._next = now + FASTEST

    def submitted(self, frame_id: int, picture: Picture) -> bool:
        """Keep the followed frame's pixels, where they are here."""
        followed = self._followed
        if followed is None or followed.frame_id != frame_id:
            return False
        followed.pixels = picture.pixels
        return self._clock.now() < self._bins_until

    def computed(self, outcome: Outcome, labels: UInt8Array | LabelRuns, size: tuple[int, int]) -> None:
        """The followed frame is the next picture. One that was passed over gets no labels any more."""
        followed = self._followed
        if followed is None or outcome.frame_id < followed.frame_id:
            return
        self._followed = None
        if outcome.frame_id > followed.frame_id:
            return
        self._latest = Snapshot(
            outcome.frame_id,
            followed.frame,
            followed.pixels,
            labels,
            size,
            self._live.session.options.model,
            self._clock.now(),
            outcome.stats,
            outcome.bins,
        )
        self._news.set()
        self._news = asyncio.Event()

    def closed(self) -> None:
        """The session is over."""
        self.end()
