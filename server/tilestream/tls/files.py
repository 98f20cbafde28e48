"""The files of a TLS server, read and checked before anybody is shown them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key


class CertificateError(Exception):
    """Files that cannot be served; the message names the file, what is wrong with it and what is needed."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are, all PEM. ``client_ca``: who issues what clients have to show; None: they show none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all files there are."""
        return (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))


@dataclass(frozen=True, slots=True)
class Certificates:
    """What was in the files, all PEM; ``expires``: when the server's certificate does, with its time zone."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime.datetime


def read_certificates(files: CertificateFiles, now: datetime.datetime) -> Certificates:
    """What is in ``files``, which belongs together and is valid ``now``. Raises :class:`CertificateError`."""
    chain_pem, key_pem = _read(files.certificate, "certificate"), _read(files.key, "key")
    own = _certificates(files.certificate, chain_pem)[0]
    if own.public_key() != _private_key(files.key, key_pem).public_key():
        raise CertificateError(
            f"{files.key} is not the key of the first certificate in {files.certificate}; "
            "the server's own certificate comes first there, then those that issued it"
        )
    _check_dates(files.certificate, own, now)
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(files.client_ca, "client CA")
        for authority in _certificates(files.client_ca, client_ca):
            _check_authority(files.client_ca, authority)
    return Certificates(chain_pem, key_pem, client_ca, own.not_valid_after_utc)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read the {what} file {path}: {error.strerror or error}") from None


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(
            f"{path} holds no certificate that can be read: it has to be PEM, "
            "with a block -----BEGIN CERTIFICATE-----"
        ) from None


def _private_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:  # so the library says that there is a password
        raise CertificateError(
            f"the key in {path} is encrypted; it has to be without a password, in a file that only the "
            "server's user may read"
        ) from None
    except Exception:  # it has many for what is no key
        raise CertificateError(
            f"{path} holds no private key that can be read: it has to be PEM, "
            "with a block -----BEGIN PRIVATE KEY-----"
        ) from None


def _check_dates(path: Path, certificate: x509.Certificate, now: datetime.datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise CertificateError(f"the certificate in {path} expired on {end:%Y-%m-%d %H:%M} UTC; renew it")
    if now < begin:
        raise CertificateError(
            f"the certificate in {path} is not valid before {begin:%Y-%m-%d %H:%M} UTC; "
            f"by this machine's clock it is {now:%Y-%m-%d %H:%M}"
        )


def _check_authority(path: Path, certificate: x509.Certificate) -> None:
    try:
        issues = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        issues = certificate.version is x509.Version.v1  # which has no extensions at all
    if not issues:
        raise CertificateError(
            f"{path} holds a certificate that is no authority's ({certificate.subject.rfc4514_string()}); "
            "it has to hold those that issue the clients' certificates"
        )
