"""Why a secure connection did not come about, of which gRPC says little: found out by one more connection.

Client and server are installed without each other, and each has this module: change both (a test compares).
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress

_PATIENCE = 2.0  # seconds for each wait of the connection that finds out
_PORT = 443  # where the target names none, as gRPC has it

# OpenSSL's numbers (X509_V_ERR_...).
_NOT_YET_VALID, _EXPIRED = 9, 10
_NOT_SIGNED_BY_THEM = {2, 18, 19, 20, 21, 27}
_ANOTHER_NAME = {62, 64}

_SPEAKS_TLS = (
    "it speaks TLS and this client does not: use TLS (option tls, and ca for an authority of your own)"
)
_SPEAKS_PLAIN_TEXT = (
    "it does not speak TLS and this client does: connect without TLS, or give the server a certificate"
)
_SHOW_A_CERTIFICATE = (
    "it lets in only clients that show a certificate, so give yours by the options certificate and key"
)
_UNKNOWN_SERVER = (
    "its certificate is not of an authority that this client trusts: give the authority's certificate by the "
    "option ca"
)
_UNKNOWN_CLIENT = (
    "it does not take this client's certificate, so use one of an authority that the server trusts "
    "(its tls_client_ca)"
)


def why_no_connection(
    target: str, context: ssl.SSLContext | None, server_name: str = "", *, shows_certificate: bool = False
) -> str:
    """What TLS has to do with it that gRPC cannot connect to ``target``, and what to do; "": nothing.

    context: the client's; None: it speaks plain text. shows_certificate: one of the client's own is in it.
    Takes some seconds at most. Goes past any proxy.
    """
    address = _address(target)
    if address is None:
        return ""
    with suppress(OSError):
        if context is None:
            return _SPEAKS_TLS if _speaks_tls(address) else ""
        return _what_is_wrong(address, context, server_name or address[0], shows_certificate)
    return ""


def _address(target: str) -> tuple[str, int] | None:
    """Host and port of a target of gRPC; None: of another kind."""
    named = re.fullmatch(r"(?:dns:(?://[^/]*/)?|ipv4:|ipv6:)?(\[[^]]+\]|[^:/,\[\]]+)(?::(\d{1,5}))?", target)
    return (named[1].strip("[]"), int(named[2] or _PORT)) if named else None


def _speaks_tls(address: tuple[str, int]) -> bool:
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    anyone.set_alpn_protocols(["h2"])
    try:
        _shake_hands(address, anyone, address[0]).close()
    except ssl.SSLError as error:
        return _is_alert(error)  # it does, and wants something else
    return True


def _what_is_wrong(address: tuple[str, int], context: ssl.SSLContext, name: str, shows: bool) -> str:
    try:
        with _shake_hands(address, context, name) as connection:
            return "" if _is_welcome(connection) else _closed(shows)
    except ssl.SSLCertVerificationError as error:
        return _distrust(error, address, context, name)
    except ssl.SSLError as error:
        return _refusal(error.reason or "", shows) if _is_alert(error) else _no_tls(error)


def _is_welcome(connection: ssl.SSLSocket) -> bool:
    """In TLS 1.3 the client is through before the server sees its certificate. gRPC's servers speak first."""
    try:
        return bool(connection.recv(1))
    except ConnectionError:
        return False


def _shake_hands(address: tuple[str, int], context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    plain = socket.create_connection(address, _PATIENCE)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _is_alert(error: ssl.SSLError) -> bool:
    return "_ALERT_" in (error.reason or "")


def _no_tls(error: ssl.SSLError) -> str:
    """What answers without TLS is no record of it, whatever OpenSSL calls that."""
    closed = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))
    return "" if closed or error.reason is None else _SPEAKS_PLAIN_TEXT


def _distrust(
    error: ssl.SSLCertVerificationError, address: tuple[str, int], context: ssl.SSLContext, name: str
) -> str:
    """The client does not take the server's certificate."""
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired: renew it there (or set this machine's clock)"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet: set this machine's clock, or the server's"
    if code in _ANOTHER_NAME:
        names = ", ".join(_names(address, context)) or "others"
        return (
            f"its certificate is for {names}, not for {name}: connect by such a name, or say by the option "
            "server_name which one to expect"
        )
    if code in _NOT_SIGNED_BY_THEM:
        return _UNKNOWN_SERVER
    return f"its certificate is not accepted: {error.verify_message}"


def _names(address: tuple[str, int], context: ssl.SSLContext) -> list[str]:
    """Those that the server's certificate, which is all right otherwise, is for."""
    context.check_hostname = False
    try:
        with _shake_hands(address, context, address[0]) as connection:
            shown = connection.getpeercert() or {}
    except OSError:
        return []
    finally:
        context.check_hostname = True
    alternatives: tuple[tuple[str, str], ...] = shown.get("subjectAltName", ())  # type: ignore[assignment]
    return [name for kind, name in alternatives if kind in ("DNS", "IP Address")]


def _closed(shows: bool) -> str:
    """The server says nothing, as those of gRPC do when they do not take the client's certificate."""
    if shows:
        return f"it closes the connection after the handshake: {_UNKNOWN_CLIENT}"
    return f"it closes the connection after the handshake: {_SHOW_A_CERTIFICATE}"


def _refusal(reason: str, shows: bool) -> str:
    """The server does not take the client's certificate, by the alert that it sent."""
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and not shows):
        return _SHOW_A_CERTIFICATE
    if "UNKNOWN_CA" in reason:
        return _UNKNOWN_CLIENT
    return f"it breaks off the TLS handshake ({reason})"
