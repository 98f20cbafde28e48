"""The metrics of gRPC calls, with the names that gRPC servers commonly use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from tilestream.telemetry.tallies import Count, Counts

_LABELS = ("grpc_type", "grpc_service", "grpc_method")


@dataclass(frozen=True, slots=True)
class CallMetrics:
    """The counters of one call."""

    received: Count
    sent: Count
    handled: Callable[[str], None]  # with the name of the status code


class CallCounters:
    """What is counted of calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counts("grpc_server_started", "Calls started.", _LABELS, registry)
        self._handled = Counts("grpc_server_handled", "Calls ended.", (*_LABELS, "grpc_code"), registry)
        self._received = Counts("grpc_server_msg_received", "Messages received.", _LABELS, registry)
        self._sent = Counts("grpc_server_msg_sent", "Messages sent.", _LABELS, registry)

    def expect(self, kind: str, service: str, method: str, codes: Iterable[str]) -> None:
        """There may be calls of this method, which may end with these codes: begin their series at 0."""
        for counter in (self._started, self._received, self._sent):
            counter.labels(kind, service, method)
        for code in codes:
            self._handled.labels(kind, service, method, code)

    def begun(self, kind: str, service: str, method: str) -> CallMetrics:
        """A call began; what happens to it is told to the result."""
        labels = (kind, service, method)
        self._started.labels(*labels).inc()
        return CallMetrics(
            self._received.labels(*labels),
            self._sent.labels(*labels),
            lambda code: self._handled.labels(*labels, code).inc(),
        )
