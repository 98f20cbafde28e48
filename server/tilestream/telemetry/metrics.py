"""Every metric of the server. Base units, no label per session or camera; docs/metrics.md explains them.

All methods but :meth:`Metrics.serve` are called on the event loop, in the frontend: what the engine
knows arrives as plain data, so it is the same whether the engine is in this process or not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from tilestream.messages import EngineReport, FrameStats

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.05, 0.066, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_TILES = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 4096)
_LUMA_STEPS = (0.5, 1, 2, 4, 8, 16, 32)
_WINDOW = 5.0  # seconds that the gauges of rates look back
_RPC = ("grpc_type", "grpc_service", "grpc_method")


@dataclass(frozen=True, slots=True)
class _Sample:
    """A frame answered OK, as the gauges over the last seconds need it."""

    at: float
    units_computed: int
    units_total: int
    budget: float
    pixels_compared: int
    pixels_changed: float


class Metrics:
    """The server's metrics in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._begin = clock()
        self._recent: deque[_Sample] = deque(maxlen=10_000)
        self._evictions_seen = 0
        ProcessCollector(registry=self.registry)
        self._define_frames()
        self._define_reuse()
        self._define_sessions()
        self._define_engine()
        self._define_calls()

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"tilestream_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"tilestream_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(f"tilestream_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _define_frames(self) -> None:
        self._received = self._counter("frames_received", "Frames accepted from clients.")
        self._completed = self._counter("frames_completed", "Frames answered with a mask.", ["kind"])
        self._dropped = self._counter("frames_dropped", "Frames answered DROPPED.", ["reason"])
        self._invalid = self._counter("frames_invalid", "Frames answered INVALID.", ["reason"])
        self._jpeg_bytes = self._counter("jpeg_bytes", "Encoded frames accepted, bytes.")
        self._mask_bytes = self._counter("mask_bytes", "Encoded masks and confidence maps sent, bytes.")
        self._latency = self._histogram(
            "frame_latency_seconds", "From a frame's arrival to its answer, frames with a mask.", _SECONDS
        )
        self._stages = self._histogram(
            "stage_seconds", "Time per stage, frames with a mask.", _SECONDS, ["stage"]
        )
        fps = self._gauge("fps", "Frames answered with a mask per second, last 5 seconds.")
        fps.set_function(self.fps)

    def _define_reuse(self) -> None:
        labels = ["stride"]
        self._units_computed = self._counter("block_units_computed", "Block units computed.", labels)
        self._units_dropped = self._counter("block_units_dropped", "Block units dropped.", labels)
        drop_rate = self._gauge("block_drop_rate_ratio", "Dropped block units of all, last 5 seconds.")
        drop_rate.set_function(self.block_drop_rate)
        budget = self._gauge("block_budget_ratio", "Mean budget of the frames of the last 5 seconds.")
        budget.set_function(self.block_budget)
        self._compared = self._counter(
            "reuse_compared_pixels", "Pixels computed anew and compared with their moved label."
        )
        self._changed = self._counter("reuse_changed_pixels", "Of these, pixels that got another label.")
        agreement = self._gauge(
            "reuse_agreement_ratio", "Compared pixels that kept their label, last 5 seconds; NaN without any."
        )
        agreement.set_function(self.agreement)
        self._distortion = self._histogram(
            "frame_distortion_luma", "Mean distortion of a partial frame, luma steps 0..255.", _LUMA_STEPS
        )

    def _define_sessions(self) -> None:
        self._sessions = self._gauge("sessions", "Sessions open.")
        self._sessions_limit = self._gauge("sessions_limit", "Most sessions at a time.")
        self._sessions_opened = self._counter("sessions_opened", "Sessions opened.")
        self._sessions_closed = self._counter("sessions_closed", "Sessions closed.", ["cause"])
        self._sessions_suspended = self._gauge("sessions_suspended", "Open sessions without a stream.")
        self._sessions_resumed = self._counter("sessions_resumed", "Lost sessions that went on.")
        self._sessions_refused = self._counter("sessions_refused", "Sessions refused.")

    def _define_engine(self) -> None:
        self._step_seconds = self._histogram("step_seconds", "Time of an engine step.", _SECONDS)
        self._step_sessions = self._histogram("step_sessions", "Sessions per engine step.", _COUNTS)
        self._step_tiles = self._histogram("step_tiles", "Tiles computed per engine step.", _TILES)
        self._lag = self._histogram(
            "scheduler_lag_seconds", "From a decoded frame's hand-over to the begin of its step.", _SECONDS
        )
        self._load_level = self._gauge(
            "overload_level", "0 normal, 1 budgets lowered, 2 frames shed, 3 sessions refused."
        )
        self._budget_scale = self._gauge("budget_scale_ratio", "What budgets are multiplied with, 0..1.")
        self._demand = self._gauge("demand_ratio", "Engine time that the offered frames would take, 1 = all.")
        self._evictions = self._counter("evictions", "Sessions whose features were evicted.")
        self._store_bytes = self._gauge("feature_store_bytes", "Features held, bytes.")
        self._store_limit = self._gauge("feature_store_limit_bytes", "Room for features, bytes.")
        self._store_pages = self._gauge("feature_store_pages", "Pages held.")
        self._store_page_limit = self._gauge("feature_store_limit_pages", "Pages there are.")
        on_device = ["device"]  # no series where the device does not tell
        self._device_memory = self._gauge("device_memory_bytes", "Device memory in use, bytes.", on_device)
        self._device_limit = self._gauge(
            "device_memory_limit_bytes", "Device memory there is, bytes.", on_device
        )
        self._device_busy = self._gauge("device_utilisation_ratio", "Device busy, 0..1.", on_device)
        self._build = self._gauge("build_info", "Always 1.", ["version", "device", "precision"])

    def _define_calls(self) -> None:
        registry = self.registry
        self._rpc_started = Counter("grpc_server_started", "Calls started.", _RPC, registry=registry)
        self._rpc_handled = Counter(
            "grpc_server_handled", "Calls ended.", [*_RPC, "grpc_code"], registry=registry
        )
        self._rpc_received = Counter(
            "grpc_server_msg_received", "Messages received.", _RPC, registry=registry
        )
        self._rpc_sent = Counter("grpc_server_msg_sent", "Messages sent.", _RPC, registry=registry)

    def frame_received(self, jpeg_bytes: int) -> None:
        """A frame was accepted."""
        self._received.inc()
        self._jpeg_bytes.inc(jpeg_bytes)

    def frame_answered(
        self,
        status: str,
        reason: str,
        latency: float,
        stages: Mapping[str, float],
        stats: FrameStats | None,
        mask_bytes: int = 0,
    ) -> None:
        """A frame got its answer, which was sent; ``latency`` and ``stages`` in seconds."""
        if status == "dropped":
            self._dropped.labels(reason).inc()
        elif status == "invalid":
            self._invalid.labels(reason).inc()
        if stats is None:
            return
        self._completed.labels("key" if stats.key_frame else "partial").inc()
        self._mask_bytes.inc(mask_bytes)
        self._latency.observe(latency)
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)
        compared, changed = stats.agreement_pixels, stats.agreement_pixels * (1.0 - (stats.agreement or 0.0))
        self._compared.inc(compared)
        self._changed.inc(changed)
        self._recent.append(
            _Sample(self._clock(), stats.units_computed, stats.units_total, stats.budget, compared, changed)
        )
        for stride, (computed, total) in stats.units_by_stride.items():
            self._units_computed.labels(str(stride)).inc(computed)
            self._units_dropped.labels(str(stride)).inc(total - computed)
        if not stats.key_frame:
            self._distortion.observe(stats.mean_distortion)

    def step_done(self, sessions: int, seconds: float, report: EngineReport | None) -> None:
        """The engine computed a step; ``report`` is None where it did not get that far."""
        self._step_sessions.observe(sessions)
        self._step_seconds.observe(seconds)
        if report is None:
            return
        self._step_tiles.observe(report.tiles)
        # The engine counts from its own start: a smaller number is that of a new one.
        new = report.evictions - self._evictions_seen
        self._evictions.inc(new if new >= 0 else report.evictions)
        self._evictions_seen = report.evictions
        self._store_bytes.set(report.store_bytes)
        self._store_limit.set(report.store_limit_bytes)
        self._store_pages.set(report.store_pages)
        self._store_page_limit.set(report.store_limit_pages)
        for gauge, value in (
            (self._device_memory, report.device_memory_bytes),
            (self._device_limit, report.device_memory_limit_bytes),
            (self._device_busy, report.device_utilisation),
        ):
            if value is not None:
                gauge.labels(report.device).set(value)

    def load(self, level: int, scale: float, demand: float) -> None:
        """What the scheduler does about the load."""
        self._load_level.set(level)
        self._budget_scale.set(scale)
        self._demand.set(demand)

    def frame_scheduled(self, lag: float) -> None:
        """A frame was computed whose step began ``lag`` seconds after it was handed over."""
        self._lag.observe(max(0.0, lag))

    def session_opened(self) -> None:
        """A session is open."""
        self._sessions_opened.inc()
        self._sessions.inc()

    def session_closed(self, cause: str) -> None:
        """A session that was open is not any more."""
        self._sessions_closed.labels(cause).inc()
        self._sessions.dec()

    def sessions_suspended(self, count: int) -> None:
        """So many of the open sessions wait for their client to come back."""
        self._sessions_suspended.set(count)

    def session_resumed(self) -> None:
        """A session whose stream was lost goes on over another one."""
        self._sessions_resumed.inc()

    def session_refused(self) -> None:
        """A session could not be had."""
        self._sessions_refused.inc()

    def server_started(self, version: str, device: str, precision: str, max_sessions: int) -> None:
        """What serves."""
        self._build.labels(version, device, precision).set(1)
        self._sessions_limit.set(max_sessions)

    def call_started(self, kind: str, service: str, method: str) -> CallMetrics:
        """A call of the service began; what happens to it is told to the result."""
        labels = (kind, service, method)
        self._rpc_started.labels(*labels).inc()
        return CallMetrics(
            self._rpc_received.labels(*labels),
            self._rpc_sent.labels(*labels),
            lambda code: self._rpc_handled.labels(*labels, code).inc(),
        )

    def fps(self) -> float:
        """Frames answered OK per second over the last seconds."""
        return len(self._window()) / max(min(_WINDOW, self._clock() - self._begin), 1e-3)

    def block_drop_rate(self) -> float:
        """Dropped block units / all of them over the last seconds; 0 without frames."""
        window = self._window()
        total = sum(sample.units_total for sample in window)
        return 1.0 - sum(sample.units_computed for sample in window) / total if total else 0.0

    def block_budget(self) -> float:
        """Mean budget of the frames of the last seconds; 0 without frames."""
        window = self._window()
        return sum(sample.budget for sample in window) / len(window) if window else 0.0

    def agreement(self) -> float:
        """Reuse agreement over the last seconds; NaN where nothing was compared."""
        window = self._window()
        compared = sum(sample.pixels_compared for sample in window)
        return 1.0 - sum(sample.pixels_changed for sample in window) / compared if compared else math.nan

    def _window(self) -> list[_Sample]:
        since = self._clock() - _WINDOW
        return [sample for sample in self._recent.copy() if sample.at > since]  # another thread scrapes

    def serve(self, port: int, host: str) -> WSGIServer:
        """Answer Prometheus on ``http://host:port/metrics`` from a thread; ``shutdown()`` ends it."""
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        return server


@dataclass(frozen=True, slots=True)
class CallMetrics:
    """The counters of one call."""

    received: Counter
    sent: Counter
    handled: Callable[[str], None]  # with the name of the status code
