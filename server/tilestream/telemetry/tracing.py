"""Traces: one OpenTelemetry span per frame, with the seconds of its stages. Needs ``tilestream[otel]``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tilestream.proxies import proxy_options

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_W3C = ("traceparent", "tracestate")


class TracingError(Exception):
    """Traces cannot be had; the message says why."""


class FrameTracer:
    """Makes the spans of frames when they were answered, from the times that are measured anyway."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("tilestream")
        self._propagator = TraceContextTextMapPropagator()

    def parent(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> Any:
        """The W3C context in a stream's metadata; an empty one if there is none or it is malformed."""
        carrier = {key: value for key, value in metadata or () if key in _W3C and isinstance(value, str)}
        return self._propagator.extract(carrier)

    def frame(
        self,
        parent: Any,
        session_id: str,
        frame_id: int,
        status: str,
        reason: str,
        latency: float,
        stages: Mapping[str, float],
    ) -> None:
        """A frame was answered just now, ``latency`` seconds after it arrived; ``stages`` in seconds."""
        end = time.time_ns()
        attributes: dict[str, str | int | float] = {
            "tilestream.session_id": session_id,
            "tilestream.frame_id": frame_id,
            "tilestream.status": status,
            **{f"tilestream.stage.{name}_seconds": seconds for name, seconds in stages.items()},
        }
        if reason:
            attributes["tilestream.reason"] = reason
        span = self._tracer.start_span(
            "tilestream.frame", parent, attributes=attributes, start_time=end - round(latency * 1e9)
        )
        span.end(end)

    def close(self) -> None:
        """Send what is left. Idempotent."""
        self._provider.shutdown()


def make_tracer(endpoint: str) -> FrameTracer:
    """A tracer that sends to an OTLP collector over gRPC, in batches and off the event loop.

    Raises :class:`TracingError`.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError("trace_endpoint needs OpenTelemetry: pip install 'tilestream[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "tilestream"}))
    direct: Any = tuple(proxy_options(urlsplit(endpoint).netloc or endpoint))
    exporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=not endpoint.startswith("https://"), channel_options=direct
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return FrameTracer(provider)
