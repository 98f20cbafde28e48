"""Where Prometheus reads the metrics: over HTTP, or over HTTPS with the server's certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

_SILENT = 10.0  # seconds that a peer may say nothing, in its handshake or after


def serve_metrics(
    registry: CollectorRegistry, port: int, host: str, context: Callable[[], ssl.SSLContext] | None = None
) -> WSGIServer:
    """Answer on ``http://host:port/metrics`` from threads; ``shutdown()`` ends it.

    context: of TLS for one more connection, asked for each; None: plain text. Raises OSError.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    server = _Server((host, port), family, context)
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Handler(WSGIRequestHandler):
    """Says nothing of requests, which come all the time."""

    timeout = _SILENT

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection; what is wrong with a connection is the peer's affair."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        family: socket.AddressFamily,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self.address_family = family
        self._context = context
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self._context is None:
            return connection, address
        # The handshake takes place at the first read, in the connection's own thread: a peer that is silent
        # would hold up all others here.
        wrap = self._context().wrap_socket
        return wrap(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass
