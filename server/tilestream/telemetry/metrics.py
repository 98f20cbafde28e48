"""Every metric of the server; ``calls`` has those of gRPC calls.

Base units, no label per session or camera; docs/metrics.md explains them.

All methods are called on the event loop, in the frontend: what the engine
knows arrives as plain data, so it is the same whether the engine is in this process or not. What is done
about the load is asked for when the metrics are read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from tilestream.messages import STAGES, EngineReport, FrameStats
from tilestream.scheduling.overload import LoadReport, Remedy
from tilestream.telemetry.calls import CallCounters
from tilestream.telemetry.engine_totals import EngineTotals
from tilestream.telemetry.recent_frames import RecentFrames
from tilestream.telemetry.tallies import Count, Counts, Spread, Spreads

disable_created_metrics()  # a series beside every other one that says when it began: nobody asks for them

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.05, 0.066, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_TILES = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 4096)
_LUMA_STEPS = (0.5, 1, 2, 4, 8, 16, 32)
# Label values that are known: their series are there from the start, at 0. A series that begins with its
# first event has no increase then, and an alert on its rate would miss that one.
_KINDS = ("key", "partial")
_DROPS = ("queue_full", "superseded", "overload", "engine_error", "shutdown", "quota")
_FAULTS = (
    "empty",
    "too_many_bytes",
    "too_many_pixels",
    "not_jpeg",
    "truncated",
    "corrupt",
    "unsupported",
    "no_key_unit",
    "too_costly",
)
_STAGES = ("queue", *STAGES, "encode")
_CAUSES = ("finished", "client_error", "disconnected", "idle", "gave_way", "max_age", "shutdown", "error")
_REFUSALS = ("full", "quota", "decoders", "overloaded", "shutdown", "engine")
_CALL_REFUSALS = ("unauthenticated", "not_allowed", "streams", "calls")

_One = TypeVar("_One", Count, Spread)


class _Series(dict[str, _One], Generic[_One]):
    """The series of a metric with one label, by its value."""

    def __init__(self, begin: Callable[[str], _One], values: Iterable[str] = ()) -> None:
        super().__init__()
        self._begin: Callable[[str], _One] = begin
        for value in values:
            self[value] = begin(value)

    def __missing__(self, value: str) -> _One:
        series = self[value] = self._begin(value)
        return series


class Metrics:
    """The server's metrics in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._recent = RecentFrames(clock)
        self._engines = EngineTotals()
        ProcessCollector(registry=self.registry)
        self._define_frames()
        self._define_reuse()
        self._define_sessions()
        self._define_engine()
        self.calls = CallCounters(self.registry)

    def _counter(self, name: str, text: str) -> Count:
        return Counts(f"tilestream_{name}", text, (), self.registry).labels()

    def _counters(self, name: str, text: str, label: str, values: Sequence[str] = ()) -> _Series[Count]:
        return _Series(Counts(f"tilestream_{name}", text, [label], self.registry).labels, values)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"tilestream_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: Sequence[float]) -> Spread:
        return Spreads(f"tilestream_{name}", text, (), bounds, self.registry).labels()

    def _histograms(
        self, name: str, text: str, bounds: Sequence[float], label: str, values: Sequence[str]
    ) -> _Series[Spread]:
        return _Series(Spreads(f"tilestream_{name}", text, [label], bounds, self.registry).labels, values)

    def _define_frames(self) -> None:
        self._received = self._counter("frames_received", "Frames accepted from clients.")
        self._completed = self._counters("frames_completed", "Frames answered with a mask.", "kind", _KINDS)
        self._dropped = self._counters("frames_dropped", "Frames answered DROPPED.", "reason", _DROPS)
        self._invalid = self._counters("frames_invalid", "Frames answered INVALID.", "reason", _FAULTS)
        self._unanswered = self._counter("frames_unanswered", "Frames whose session ended before an answer.")
        self._jpeg_bytes = self._counter("jpeg_bytes", "Encoded frames accepted, bytes.")
        self._mask_bytes = self._counter("mask_bytes", "Encoded masks and confidence maps sent, bytes.")
        self._latency = self._histogram(
            "frame_latency_seconds", "From a frame's arrival to its answer, frames with a mask.", _SECONDS
        )
        text = "Time per stage, frames with a mask."
        self._stages = self._histograms("stage_seconds", text, _SECONDS, "stage", _STAGES)
        fps = self._gauge("fps", "Frames answered with a mask per second, last 5 seconds.")
        fps.set_function(self._recent.fps)

    def _define_reuse(self) -> None:
        self._units_computed = self._counters("block_units_computed", "Block units computed.", "stride")
        self._units_dropped = self._counters("block_units_dropped", "Block units dropped.", "stride")
        drop_rate = self._gauge("block_drop_rate_ratio", "Dropped block units of all, last 5 seconds.")
        drop_rate.set_function(self._recent.block_drop_rate)
        budget = self._gauge("block_budget_ratio", "Mean budget of the frames of the last 5 seconds.")
        budget.set_function(self._recent.block_budget)
        self._compared = self._counter(
            "reuse_compared_pixels", "Pixels computed anew and compared with their warped label."
        )
        self._changed = self._counter("reuse_changed_pixels", "Of these, pixels that got another label.")
        agreement = self._gauge(
            "reuse_agreement_ratio", "Compared pixels that kept their label, last 5 seconds; NaN without any."
        )
        agreement.set_function(self._recent.agreement)
        self._distortion = self._histogram(
            "frame_distortion_luma", "Mean distortion of a partial frame, luma steps 0..255.", _LUMA_STEPS
        )

    def _define_sessions(self) -> None:
        self._sessions = self._gauge("sessions", "Sessions open.")
        self._sessions_limit = self._gauge("sessions_limit", "Most sessions at a time.")
        self._sessions_opened = self._counter("sessions_opened", "Sessions opened.")
        self._sessions_closed = self._counters("sessions_closed", "Sessions closed.", "cause", _CAUSES)
        self._sessions_suspended = self._gauge("sessions_suspended", "Open sessions without a stream.")
        self._sessions_resumed = self._counter("sessions_resumed", "Lost sessions that went on.")
        self._sessions_refused = self._counters("sessions_refused", "Sessions refused.", "reason", _REFUSALS)
        text = "Calls refused before they could ask for anything."
        self._calls_refused = self._counters("calls_refused", text, "reason", _CALL_REFUSALS)

    def _define_engine(self) -> None:
        self._step_seconds = self._histogram("step_seconds", "Time of an engine step.", _SECONDS)
        text = "Time of an engine step per stage."
        self._step_stages = self._histograms("step_stage_seconds", text, _SECONDS, "stage", STAGES)
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
        self._budgets_help = self._gauge(
            "budgets_help",
            "1: budgets are lowered under load; 0: that would not help, frames are shed.",
        )
        self._budget_scale.set(1.0)
        self._budgets_help.set(1.0)
        self._deferred = self._counter("whole_frames_put_off", "Frames not computed in full to be on time.")
        self._evictions = self._counter("evictions", "Sessions whose features were evicted.")
        self._restarts = self._counter("engine_restarts", "Engine processes that died and were replaced.")
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
        self._certificate_expiry = self._gauge(
            "certificate_expiry_timestamp_seconds", "When the server's certificate expires; NaN without TLS."
        )
        self._certificate_expiry.set(math.nan)

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
            self._dropped[reason].inc()
        elif status == "invalid":
            self._invalid[reason].inc()
        if stats is None:
            return
        self._completed["key" if stats.whole else "partial"].inc()
        self._mask_bytes.inc(mask_bytes)
        self._latency.observe(latency)
        for stage, seconds in stages.items():
            self._stages[stage].observe(seconds)
        self._compared.inc(stats.agreement_pixels)
        self._changed.inc(stats.pixels_changed)
        self._recent.add(stats)
        for stride, (computed, total) in stats.units_by_stride.items():
            self._units_computed[str(stride)].inc(computed)
            self._units_dropped[str(stride)].inc(total - computed)
        if not stats.whole:
            self._distortion.observe(stats.mean_distortion)

    def frames_unanswered(self, count: int) -> None:
        """A session ended with so many frames whose answer was not sent."""
        self._unanswered.inc(count)

    def step_done(
        self,
        sessions: int,
        seconds: float,
        report: EngineReport | None,
        deferred: int = 0,
        engine: int = 0,
        stages: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """An engine computed a step; ``report`` is None where it did not get that far.

        ``deferred``: frames that were not computed in full to be on time. ``stages``: seconds of the step.
        """
        self._deferred.inc(deferred)
        self._step_sessions.observe(sessions)
        self._step_seconds.observe(seconds)
        for stage, spent in stages.items():
            self._step_stages[stage].observe(spent)
        if report is not None:
            self._step_tiles.observe(report.tiles)
            self.engine_reported(report, engine)

    def engine_reported(self, report: EngineReport, engine: int = 0) -> None:
        """How an engine is doing."""
        evictions, restarts = self._engines.update(engine, report)
        self._evictions.inc(evictions)
        self._restarts.inc(restarts)
        self._store_bytes.set(self._engines.sum("store_bytes"))
        self._store_limit.set(self._engines.sum("store_limit_bytes"))
        self._store_pages.set(self._engines.sum("store_pages"))
        self._store_page_limit.set(self._engines.sum("store_limit_pages"))
        for gauge, value in (
            (self._device_memory, report.device_memory_bytes),
            (self._device_limit, report.device_memory_limit_bytes),
            (self._device_busy, report.device_utilisation),
        ):
            if value is not None:
                gauge.labels(report.device).set(value)

    def ask_loads(self, loads: Callable[[], Sequence[LoadReport]]) -> None:
        """Ask for what is done about the engines' load whenever it is read, from any thread.

        The metrics tell of the busiest engine. A server that has nothing to do makes no steps to tell it by.
        """
        self._load_level.set_function(lambda: max(load.level for load in loads()))
        self._budget_scale.set_function(lambda: min(load.scale for load in loads()))
        self._demand.set_function(lambda: max(load.demand for load in loads()))
        self._budgets_help.set_function(lambda: min(load.remedy is Remedy.LOWER for load in loads()))

    def ask_certificate(self, expires: Callable[[], float]) -> None:
        """Ask for when the certificate in force expires, Unix time, whenever it is read, from any thread."""
        self._certificate_expiry.set_function(expires)

    def frame_scheduled(self, lag: float) -> None:
        """A frame was computed whose step began ``lag`` seconds after it was handed over."""
        self._lag.observe(max(0.0, lag))

    def session_opened(self) -> None:
        """A session is open."""
        self._sessions_opened.inc()
        self._sessions.inc()

    def session_closed(self, cause: str) -> None:
        """A session that was open is not any more."""
        self._sessions_closed[cause].inc()
        self._sessions.dec()

    def sessions_suspended(self, count: int) -> None:
        """So many of the open sessions wait for their client to come back."""
        self._sessions_suspended.set(count)

    def session_resumed(self) -> None:
        """A session whose stream was lost goes on over another one."""
        self._sessions_resumed.inc()

    def session_refused(self, reason: str) -> None:
        """A session could not be had."""
        self._sessions_refused[reason].inc()

    def call_refused(self, reason: str) -> None:
        """A call was not let in."""
        self._calls_refused[reason].inc()

    def server_started(self, version: str, device: str, precision: str, max_sessions: int) -> None:
        """What serves."""
        self._build.labels(version, device, precision).set(1)
        self._sessions_limit.set(max_sessions)
