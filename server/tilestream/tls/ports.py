"""How the server's ports speak: in plain text, or TLS with the certificates in force."""

from __future__ import annotations

import ssl
from wsgiref.simple_server import WSGIServer

import grpc

from tilestream.config import Settings
from tilestream.listening import is_loopback
from tilestream.telemetry.metrics import Metrics
from tilestream.telemetry.metrics_port import serve_metrics
from tilestream.tls.credentials import SslContexts, grpc_credentials
from tilestream.tls.files import CertificateFiles
from tilestream.tls.store import CertificateStore


class Ports:
    """What the settings ask for. Raises CertificateError where the files cannot be served."""

    def __init__(self, settings: Settings) -> None:
        self._metrics_port = settings.metrics_port
        self._store: CertificateStore | None = None
        if settings.tls_certificate is not None and settings.tls_key is not None:
            files = CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
            self._store = CertificateStore(files)

    @property
    def security(self) -> str:
        """For the log: none, TLS, or mTLS (clients show certificates, too)."""
        if self._store is None:
            return "none"
        return "mTLS" if self._store.files.client_ca else "TLS"

    def add_grpc_port(self, server: grpc.aio.Server, address: str) -> int:
        """Listen there; the port. Raises RuntimeError where that cannot be."""
        if self._store is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, grpc_credentials(self._store)))

    def web_context(self) -> ssl.SSLContext | None:
        """For the page, which speaks TLS wherever gRPC does, with the certificates in force.

        Every connection has to show a certificate anew where clients show any. None: plain text.
        """
        if self._store is None:
            return None
        contexts, context = SslContexts(self._store), SslContexts(self._store).latest()
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0

        def show_latest(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            connection.context = contexts.latest()

        context.sni_callback = show_latest
        return context

    def serve_metrics(self, metrics: Metrics, host: str) -> WSGIServer:
        """Answer Prometheus. On loopback in plain text, since nobody can listen in. Raises OSError.

        Each look at the metrics is one at the files, so that a renewal that failed is in the log soon.
        """
        context = None
        if self._store is not None:
            store = self._store
            metrics.ask_certificate(lambda: store.latest().expires.timestamp())
            if not is_loopback(host):
                context = SslContexts(store).latest
        return serve_metrics(metrics.registry, self._metrics_port, host, context)
