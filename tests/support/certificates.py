"""Certificates for tests, made when they are needed, and channels that use them."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = ("localhost", "127.0.0.1")  # what a server's certificate is for, where a test does not say
VALID = (-1.0, 30.0)  # days from now
EXPIRED = (-30.0, -1.0)
NOT_YET = (1.0, 30.0)


@dataclass(frozen=True)
class Issued:
    """Paths of a certificate and its key, both PEM."""

    certificate: Path
    key: Path

    @property
    def flags(self) -> dict[str, Path]:
        """The server's settings for it."""
        return {"tls_certificate": self.certificate, "tls_key": self.key}


def replace_file(target: Path, content: bytes) -> None:
    """In one step, as whoever renews certificates should."""
    part = target.with_suffix(".part")
    part.write_bytes(content)
    part.replace(target)


class Authority:
    """Issues certificates into files of ``folder``. ``certificate``: the path of its own, to be trusted."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name.from_rfc4514_string(f"CN={name}")
        self.certificate = folder / f"{name}.pem"
        builder = _builder(self._subject, self._subject, self._key, VALID)
        signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate.write_bytes(_pem(signed.sign(self._key, hashes.SHA256())))

    def serve(self, server: Issued, *, mutual: bool = False) -> grpc.ServerCredentials:
        """What a server shows. mutual: clients have to show what this authority issued."""
        pair = (server.key.read_bytes(), server.certificate.read_bytes())
        root = self.certificate.read_bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], root, mutual)

    def connect(self, client: Issued | None = None):
        """What makes an asyncio channel of a target: trusts this authority, shows the client's."""
        own = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(self.certificate.read_bytes(), *own)
        # Channels of the same arguments share a connection, also with those before.
        options = [("grpc.use_local_subchannel_pool", 1)]
        return partial(grpc.aio.secure_channel, credentials=credentials, options=options)

    def issue(
        self,
        name: str,
        subject: str = "",
        *,
        names: Sequence[str] = HERE,
        days: tuple[float, float] = VALID,
    ) -> Issued:
        """``name.pem`` and ``name.key``; subject by RFC 4514; names: host names, addresses, URIs."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name.from_rfc4514_string(subject), self._subject, key, days)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(map(_general_name, names)), critical=not subject
            )
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
        return issued


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[float, float]
):
    now = datetime.datetime.now(datetime.UTC)
    begin, end = (now + datetime.timedelta(days=day) for day in days)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
