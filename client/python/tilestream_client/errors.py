# ruff: noqa: N818 - the names say what happened; that they are errors is plain where they are caught
"""What can go wrong, as exceptions that say what to do, and the way from a gRPC status to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from tilestream_client.proxies import proxy_variable

if TYPE_CHECKING:
    from collections.abc import Iterable

_DETAILS_KEY = "grpc-status-details-bin"
_BUSY = {"FULL": "is full", "OVERLOADED": "is overloaded"}  # by the reason of google.rpc.ErrorInfo


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a config: its name, and what is wrong with it and allowed instead."""

    field: str
    problem: str


class TilestreamError(Exception):
    """Base of everything this package raises.

    code: name of the gRPC status, such as "UNAVAILABLE"; "" where none was involved.
    retry_after: seconds after which the server wants to be asked again; None = it did not say.
    unanswered: ids of the frames that were sent and will get no answer.
    unsent: ids of the frames that were read from your source and not sent.
    """

    def __init__(self, message: str, *, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.unanswered: tuple[int, ...] = ()
        self.unsent: tuple[int, ...] = ()


class ConnectionFailed(TilestreamError):
    """The server could not be reached or did not answer. Check the address and that it runs."""


class TlsFailed(ConnectionFailed):
    """Client and server do not agree on TLS; the message says what is wrong with which, and what to do."""


class AccessDenied(TilestreamError):
    """The server does not know or does not accept the credentials."""


class InvalidConfig(TilestreamError, ValueError):
    """The server (or this package) refuses the options of a stream; ``fields`` says which and why."""

    def __init__(self, message: str, *, code: str = "", fields: Iterable[FieldError] = ()) -> None:
        super().__init__(message, code=code)
        self.fields = tuple(fields)


class ServerBusy(TilestreamError):
    """The server takes no more sessions now; try again after ``retry_after`` seconds."""


class ServerDraining(ServerBusy):
    """The server ends its streams (shutdown, or the session's age); open a new one after ``retry_after``."""


class ServerError(TilestreamError):
    """A fault of the server."""


class SessionClosed(TilestreamError):
    """The stream is over before its source was: idle for too long, ended by the server, or closed here."""


class ConnectionLost(SessionClosed):
    """A stream that had started broke off. The session may be resumed or opened anew."""


class MessageTooLarge(TilestreamError):
    """A message above the limit. Send smaller frames, or ask for smaller masks."""


class ProtocolError(TilestreamError):
    """Client and server do not speak the same language: a fault of one of them, or versions too far apart."""


class SourceError(TilestreamError, ValueError):
    """The frames cannot be read or are of a kind that cannot be sent."""


class MaskError(TilestreamError, ValueError):
    """An answer holds a mask that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class _Status:
    code: grpc.StatusCode
    message: str
    retry_after: float | None
    fields: tuple[FieldError, ...]
    reason: str

    @property
    def name(self) -> str:
        return str(self.code.name)


def from_rpc_error(error: grpc.RpcError, target: str, *, started: bool) -> TilestreamError:
    """The exception for a call that ended with a status other than OK.

    ``started``: the call was a stream whose session was open, so there is something to lose.
    """
    status = _read_status(error)
    made = _common_error(status, target)
    if made is None:
        made = _stream_error(status, target) if started else _call_error(status, target)
    if isinstance(made, ConnectionFailed | ConnectionLost | ProtocolError):
        made.args = (f"{made}{_through_proxy(target)}",)
    return made


def _common_error(status: _Status, target: str) -> TilestreamError | None:
    """What means the same before and within a session."""
    kinds = grpc.StatusCode
    said, name = status.message, status.name
    if status.code is kinds.INVALID_ARGUMENT:
        listed = "; ".join(f"{field.field}: {field.problem}" for field in status.fields)
        return InvalidConfig(listed or said, code=name, fields=status.fields)
    if status.code in (kinds.UNAUTHENTICATED, kinds.PERMISSION_DENIED):
        return AccessDenied(f"{target} refuses the credentials: {said}", code=name)
    if status.code in (kinds.FAILED_PRECONDITION, kinds.UNIMPLEMENTED):
        return ProtocolError(f"{target} does not understand this client: {said}", code=name)
    if status.code is kinds.UNAVAILABLE and status.retry_after is not None:
        text = f"{target} ends its sessions{_when(status.retry_after)}: {said}"
        return ServerDraining(text, code=name, retry_after=status.retry_after)
    if status.code is kinds.RESOURCE_EXHAUSTED:
        if _is_about_size(status):
            return MessageTooLarge(f"a message is above the limit: {said}", code=name)
        state = _BUSY.get(status.reason, "takes no more sessions")
        text = f"{target} {state}{_when(status.retry_after)}: {said}"
        return ServerBusy(text, code=name, retry_after=status.retry_after)
    return None


def _stream_error(status: _Status, target: str) -> TilestreamError:
    kinds = grpc.StatusCode
    if status.code is kinds.DEADLINE_EXCEEDED:
        return SessionClosed(f"{target} closed the idle session: {status.message}", code=status.name)
    # A proxy reports a backend that died as INTERNAL or CANCELLED as well.
    if status.code in (kinds.UNAVAILABLE, kinds.INTERNAL, kinds.CANCELLED, kinds.UNKNOWN):
        text = f"the stream to {target} broke off ({status.name}): {status.message}"
        return ConnectionLost(text, code=status.name, retry_after=status.retry_after)
    return SessionClosed(f"{target} ended the stream ({status.name}): {status.message}", code=status.name)


def _call_error(status: _Status, target: str) -> TilestreamError:
    kinds = grpc.StatusCode
    if status.code is kinds.UNAVAILABLE:
        text = f"cannot reach {target}, is the server running there? ({status.message})"
        return ConnectionFailed(text, code=status.name)
    if status.code is kinds.DEADLINE_EXCEEDED:
        return ConnectionFailed(f"{target} did not answer in time", code=status.name)
    return ServerError(f"{target} failed ({status.name}): {status.message}", code=status.name)


def _read_status(error: grpc.RpcError) -> _Status:
    call: Any = error  # sync and aio errors are Calls too
    retry_after, reason = None, ""
    fields: list[FieldError] = []
    for packed in _details(call.trailing_metadata()):
        if packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
            reason = info.reason
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            fields += [
                FieldError(item.field.removeprefix("config."), item.description)
                for item in bad.field_violations
            ]
    message = " ".join((call.details() or "no reason given").split())
    return _Status(call.code(), message, retry_after, tuple(fields), reason)


def _details(metadata: Iterable[tuple[str, str | bytes]] | None) -> list[Any]:
    """The google.protobuf.Any messages of a status; none where they cannot be read."""
    for key, value in metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except DecodeError:
                return []  # the code and the message still stand
            return list(status.details)
    return []


def _is_about_size(status: _Status) -> bool:
    """On either side gRPC words it "Received message larger than max"; the server gives no delay for it."""
    text = status.message.lower()
    return status.retry_after is None and ("larger than" in text or ("limit" in text and "message" in text))


def _through_proxy(target: str) -> str:
    """Where it went, if not straight there: what is wrong may be the proxy's doing."""
    variable = proxy_variable(target)
    return f" (through the proxy of the environment's {variable}; no_proxy exempts hosts)" if variable else ""


def _when(retry_after: float | None) -> str:
    return "" if retry_after is None else f" (try again in {retry_after:g} s)"
