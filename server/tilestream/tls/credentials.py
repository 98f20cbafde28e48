"""What gRPC's and Python's own servers need to speak TLS with the certificates in force."""

from __future__ import annotations

import logging
import ssl

import grpc

from tilestream.tls.files import Certificates
from tilestream.tls.store import CertificateStore

log = logging.getLogger(__name__)


def grpc_credentials(store: CertificateStore) -> grpc.ServerCredentials:
    """For a port of gRPC, TLS 1.2 or 1.3. New connections get the certificates in force; open ones go on."""
    shown = [store.latest()]

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC's threads for every connection, before its handshake; None: as before."""
        latest = store.latest()
        if latest is shown[0]:
            return None
        shown[0] = latest
        return _configuration(latest)

    mutual = shown[0].client_ca is not None
    return grpc.dynamic_ssl_server_credentials(_configuration(shown[0]), changed, mutual)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration([pair], certificates.client_ca)


class SslContexts:
    """Contexts of Python's ``ssl`` for the certificates in force, TLS 1.2 or 1.3."""

    def __init__(self, store: CertificateStore) -> None:
        self._store = store
        self._certificates = store.latest()
        self._context = self._load()

    def latest(self) -> ssl.SSLContext:
        """For one more connection. From one thread."""
        latest = self._store.latest()
        if latest is not self._certificates:
            try:
                self._context, self._certificates = self._load(), latest
            except OSError as error:  # they changed again since they were checked: so they will be once more
                log.debug("certificates changed while they were loaded: %s", error)
        return self._context

    def _load(self) -> ssl.SSLContext:
        files = self._store.files  # it takes keys from files only
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.certificate, files.key)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
