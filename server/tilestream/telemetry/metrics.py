"""Every metric of the server. Base units, no label per session or camera."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from tilestream.messages import FrameStats

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_FPS_WINDOW = 5.0  # seconds


class Metrics:
    """The server's metrics in a registry of their own. Frame methods are called on the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._begin = clock()
        self._answered_ok: deque[float] = deque(maxlen=100_000)
        self._define_frames()
        self._define_sessions()

    def _define_frames(self) -> None:
        registry = self.registry
        self._frames = Counter(
            "tilestream_frames",
            "Frames answered, by status and reason.",
            ["status", "reason"],
            registry=registry,
        )
        self._latency = Histogram(
            "tilestream_frame_latency_seconds",
            "From a frame's arrival to its answer, frames answered OK.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "tilestream_stage_seconds",
            "Time per frame and stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._units = Counter(
            "tilestream_block_units",
            "Residual block units (block x bin), computed or dropped.",
            ["result"],
            registry=registry,
        )
        self._step_frames = Histogram(
            "tilestream_step_frames",
            "Frames per engine step.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        fps = Gauge("tilestream_fps", "Frames answered OK per second, last seconds.", registry=registry)
        fps.set_function(self.fps)

    def _define_sessions(self) -> None:
        registry = self.registry
        self._sessions_opened = Counter("tilestream_sessions_opened", "Sessions opened.", registry=registry)
        self._sessions_closed = Counter(
            "tilestream_sessions_closed", "Sessions closed, by cause.", ["cause"], registry=registry
        )
        self._sessions_refused = Counter(
            "tilestream_sessions_refused", "Sessions refused.", registry=registry
        )
        self._sessions = Gauge("tilestream_sessions", "Sessions open.", registry=registry)

    def frame_answered(
        self, status: str, reason: str, latency: float, stages: Mapping[str, float], stats: FrameStats | None
    ) -> None:
        """A frame got its answer; ``latency`` and ``stages`` in seconds."""
        self._frames.labels(status, reason).inc()
        if stats is None:
            return
        self._answered_ok.append(self._clock())
        self._latency.observe(latency)
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)
        self._units.labels("computed").inc(stats.units_computed)
        self._units.labels("dropped").inc(stats.units_total - stats.units_computed)

    def step_done(self, frames: int) -> None:
        """The engine computed a step."""
        self._step_frames.observe(frames)

    def session_opened(self) -> None:
        """A session is open."""
        self._sessions_opened.inc()
        self._sessions.inc()

    def session_closed(self, cause: str) -> None:
        """A session that was open is not any more."""
        self._sessions_closed.labels(cause).inc()
        self._sessions.dec()

    def session_refused(self) -> None:
        """A session could not be had."""
        self._sessions_refused.inc()

    def fps(self) -> float:
        """Frames answered OK per second over the last seconds."""
        now = self._clock()
        times = list(self._answered_ok)  # scraped from another thread
        recent = sum(1 for at in times if at > now - _FPS_WINDOW)
        return recent / max(min(_FPS_WINDOW, now - self._begin), 1e-3)

    def serve(self, port: int, host: str) -> WSGIServer:
        """Answer Prometheus on ``http://host:port/metrics`` from a thread; ``shutdown()`` ends it."""
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        return server
