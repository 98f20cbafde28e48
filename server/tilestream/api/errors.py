"""What clients are told when a call fails: the one place that maps errors to gRPC statuses.

Details follow google.rpc: BadRequest names the field, RetryInfo says when to come again, ErrorInfo why a
session is refused (FULL, OVERLOADED, ENGINE, QUOTA) or a call (STREAMS, CALLS). No stack trace and no text of
an unexpected exception crosses the wire; those go to the log, under an id that the client gets.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tilestream.access.refusals import LimitReached, NotAllowed, NotAuthenticated
from tilestream.messages import EngineError, EngineLost
from tilestream.sessions.registry import ServerDraining
from tilestream.sessions.session import FrameOrderError

log = logging.getLogger(__name__)

_DOMAIN = "tilestream"  # of the reasons


class ApiError(Exception):
    """A call that ends with a status. The message and details are fit for the client."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Iterable[Message] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)


def invalid_argument(field: str, problem: str, allowed: str) -> ApiError:
    """A field that cannot be used; the text names it and what is allowed."""
    description = f"{problem}; allowed: {allowed}"
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    bad_request = error_details_pb2.BadRequest(field_violations=[violation])
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {description}", [bad_request])


def failed_precondition(kind: str, message: str) -> ApiError:
    """A request that is right by itself but wrong now. ``kind``: a fixed word for programs."""
    violation = error_details_pb2.PreconditionFailure.Violation(type=kind, description=message)
    failure = error_details_pb2.PreconditionFailure(violations=[violation])
    return ApiError(grpc.StatusCode.FAILED_PRECONDITION, message, [failure])


def unavailable(message: str, retry_seconds: float) -> ApiError:
    """Not here and now; elsewhere, or here after ``retry_seconds``."""
    return ApiError(grpc.StatusCode.UNAVAILABLE, message, [_retry_info(retry_seconds)])


def resource_exhausted(message: str, retry_seconds: float, reason: str) -> ApiError:
    """Something is used up; again after ``retry_seconds``. ``reason``: what, a fixed word for programs."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN)
    return ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, message, [_retry_info(retry_seconds), info])


def aborted(message: str) -> ApiError:
    """Another call went first; doing the same again would undo that."""
    return ApiError(grpc.StatusCode.ABORTED, message)


def deadline_exceeded(message: str) -> ApiError:
    """The client was silent, or did not read, for too long."""
    return ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def to_api_error(error: Exception) -> ApiError:
    """The status for any exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ServerDraining):
        return unavailable(str(error), error.retry_seconds)
    if isinstance(error, LimitReached):
        return resource_exhausted(str(error), error.retry_seconds, error.reason.upper())
    if isinstance(error, NotAuthenticated):
        return ApiError(grpc.StatusCode.UNAUTHENTICATED, str(error))
    if isinstance(error, NotAllowed):
        return ApiError(grpc.StatusCode.PERMISSION_DENIED, str(error))
    if isinstance(error, FrameOrderError):
        return failed_precondition("FRAME_ORDER", str(error))
    if isinstance(error, EngineLost):
        return unavailable("the server's engine is gone; it is going to be started again", 1.0)
    if isinstance(error, EngineError):
        return resource_exhausted(f"the engine cannot open a session: {error}", 1.0, "ENGINE")
    if isinstance(error, DecodeError):
        return invalid_argument("request", "not a message of this call", "see the .proto of tilestream.v1")
    incident = secrets.token_hex(4)
    log.error("unexpected error", exc_info=error, extra={"incident": incident})
    return ApiError(
        grpc.StatusCode.INTERNAL, f"internal error; the server's log has it as incident {incident}"
    )


def to_status(error: ApiError) -> grpc.Status:
    """What goes over the wire: code, message, and the details as trailing metadata."""
    packed = []
    for detail in error.details:
        any_message = AnyMessage()
        any_message.Pack(detail)
        packed.append(any_message)
    code = code_pb2.Code.Value(error.code.name)
    return rpc_status.to_status(status_pb2.Status(code=code, message=error.message, details=packed))


def _retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(round(seconds * 1000))
    return error_details_pb2.RetryInfo(retry_delay=delay)
