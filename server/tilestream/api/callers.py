"""Who made a call: from what it shows to its caller."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar

import grpc

from tilestream.access.authenticator import Authenticator
from tilestream.access.caller import Caller
from tilestream.api.certificates import certificate_subject

_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Who made the call that this task serves; the interceptor has found it out."""
    return _caller.get()


def set_current_caller(caller: Caller) -> None:
    """From now on this task serves a call of ``caller``."""
    _caller.set(caller)


def stranger(context: grpc.aio.ServicerContext) -> Caller:
    """The caller of a call that needs no identity."""
    return Caller("", context.peer())


def identify(context: grpc.aio.ServicerContext, authenticator: Authenticator) -> Caller:
    """The caller by its credentials. Raises NotAuthenticated."""
    subject = certificate_subject(context)
    shown = [_text(value) for key, value in context.invocation_metadata() or () if key == "authorization"]
    name = authenticator.identify(shown, subject)
    return Caller(name, context.peer(), b"" if name else _digest(shown, subject))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def _digest(shown: list[str], subject: str | None) -> bytes:
    """Of credentials that nobody checks here: callers that show none are all the same one."""
    digest = hashlib.sha256()
    for value in (subject or "", *shown):
        digest.update(len(value).to_bytes(4, "big") + value.encode("utf-8", "surrogatepass"))
    return digest.digest()
