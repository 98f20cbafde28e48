"""How a client checks the server and what it shows it, from PEM files.

Client and server are installed without each other, and each has this module: change both (a test compares).
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

_ROOTS_OF_GRPC = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"  # a variable that users of gRPC may have set

# By OpenSSL's numbers (X509_V_ERR_...).
_WRONG_DATES = {
    9: "is not valid yet: set this machine's clock",
    10: "has expired: renew it (or set this machine's clock)",
}


class TlsFileError(ValueError):
    """A file that cannot be used; ``option`` names it, the message says what is wrong and what is needed."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option, self.problem = option, problem


@dataclass(frozen=True, slots=True)
class Tls:
    """An encrypted connection.

    ca: file of the authorities to trust; None = the system's. certificate, key: files of what to show to a
    server that asks for it. server_name: the name that the server's certificate has to have; "" = the one it
    is connected by. Files are PEM, and read when the client is made.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel. Raises :class:`TlsFileError`."""
        context = self.context()  # finds what is wrong with the files, of which gRPC says little
        own = [None if path is None else Path(path).read_bytes() for path in (self.key, self.certificate)]
        ca = self._ca()
        roots = _pem(context.get_ca_certs(binary_form=True)) if ca is None else ca.read_bytes()
        return grpc.ssl_channel_credentials(roots or None, *own)

    def options(self) -> list[tuple[str, str]]:
        """The options of a channel that go with it."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []

    def context(self) -> ssl.SSLContext:
        """The same for Python's own ``ssl``. Raises :class:`TlsFileError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        ca = self._ca()
        if ca is None:
            context.load_default_certs()
            if not context.get_ca_certs():  # gRPC has some of its own then
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            _look_for("ca", ca, b"CERTIFICATE")
            _load_authorities(context, ca)
        if self.certificate is not None and self.key is not None:
            _look_for("certificate", Path(self.certificate), b"CERTIFICATE")
            _look_for("key", Path(self.key), b"PRIVATE KEY")
            _load_own(context, self.certificate, self.key)
            _check_dates(Path(self.certificate), Path(self.key))
        elif self.key is not None or self.certificate is not None:
            absent, given = ("key", "certificate") if self.key is None else ("certificate", "key")
            raise TlsFileError(absent, f"is missing: {given} is given, and they go together")
        return context

    def _ca(self) -> Path | None:
        ca = self.ca or os.environ.get(_ROOTS_OF_GRPC)
        return Path(ca) if ca else None


def chosen(tls: Tls | bool) -> Tls | None:
    """What an option says that may be just yes or no; None: plain text."""
    if isinstance(tls, Tls):
        return tls
    return Tls() if tls else None


def _look_for(option: str, path: Path, kind: bytes) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TlsFileError(option, f"cannot read {path}: {error.strerror or error}") from None
    if kind + b"-----" not in content:
        raise TlsFileError(
            option, f"{path} holds none; it has to be PEM, with -----BEGIN {kind.decode()}-----"
        )


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise TlsFileError("ca", f"{ca} holds a certificate that cannot be read ({error.reason})") from None


class _PasswordNeededError(Exception):
    """A key is encrypted; nobody is asked for the password."""


def _load_own(context: ssl.SSLContext, certificate: str | Path, key: str | Path) -> None:
    def password() -> str:
        raise _PasswordNeededError

    try:
        context.load_cert_chain(certificate, key, password)
    except _PasswordNeededError:
        raise TlsFileError("key", f"{key} is encrypted; it has to be without a password") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"{key} is not the key of the first certificate in {certificate}"
            raise TlsFileError("key", problem) from None
        problem = f"{certificate} and {key} cannot be read ({error.reason or error})"
        raise TlsFileError("certificate", problem) from None


def _check_dates(certificate: Path, key: Path) -> None:
    """An expired certificate is refused without a word.

    Python tells dates only of certificates that it is shown, so it is shown this one.
    """
    shows, sees = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows.check_hostname, shows.verify_mode = False, ssl.CERT_NONE
    sees.verify_mode = ssl.CERT_REQUIRED
    sees.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # whoever issued it
    sees.load_verify_locations(certificate)
    for context in (shows, sees):
        context.load_cert_chain(certificate, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [shows.wrap_bio(back, there), sees.wrap_bio(there, back, server_side=True)]
    for side in sides * 3:  # more than a handshake has turns
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _WRONG_DATES:
                raise TlsFileError(
                    "certificate", f"{certificate} {_WRONG_DATES[error.verify_code]}"
                ) from None
            return  # what else is wrong with it is the server's to say
        except ssl.SSLError:
            return


def _pem(certificates: list[bytes]) -> bytes:
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode()
