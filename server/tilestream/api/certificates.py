"""Who a caller is by the certificate that it showed."""

from __future__ import annotations

import grpc

# What gRPC calls a name of a certificate, and how it is written here. None can be a subject: these begin with
# the short name of an attribute, and there is no attribute of such a name.
_OTHER_NAMES = (("peer_uri", "URI"), ("peer_dns", "DNS"), ("peer_email", "email"), ("peer_ip", "IP"))


def certificate_subject(context: grpc.aio.ServicerContext) -> str | None:
    """The subject of the caller's certificate, which the handshake has checked; None: it showed none.

    Written as ``openssl x509 -noout -subject -nameopt RFC2253`` does: ``CN=camera-7,O=Fleet``. Where the
    subject is empty, as in SPIFFE's certificates, it is the first other name: ``URI=spiffe://fleet/camera-7``.
    """
    shown = context.auth_context()  # has a certificate only where --tls-client-ca asks for one
    for key, prefix in (("x509_subject", ""), *((key, f"{kind}=") for key, kind in _OTHER_NAMES)):
        for name in shown.get(key, ()):
            if name:
                return prefix + name.decode("utf-8", "backslashreplace")
    return None
