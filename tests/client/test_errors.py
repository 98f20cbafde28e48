"""Every status a server or a proxy may end a call with becomes an exception that says what to do."""

from __future__ import annotations

import grpc
import pytest
from fake_answers import Status

from tilestream_client import (
    AccessDenied,
    ConnectionFailed,
    ConnectionLost,
    FieldError,
    InvalidConfig,
    MessageTooLarge,
    ProtocolError,
    ServerBusy,
    ServerDraining,
    ServerError,
    SessionClosed,
    TilestreamError,
)
from tilestream_client.errors import from_rpc_error

CODE = grpc.StatusCode


class FakeError(grpc.RpcError):
    def __init__(self, status: Status, trailers: object = None) -> None:
        self.status = status
        self.trailers = status.trailers() if trailers is None else trailers

    def code(self):
        return self.status.code

    def details(self):
        return self.status.message

    def trailing_metadata(self):
        return self.trailers


@pytest.mark.parametrize(
    ("status", "started", "expected"),
    [
        (Status(CODE.UNAVAILABLE), False, ConnectionFailed),
        (Status(CODE.DEADLINE_EXCEEDED), False, ConnectionFailed),
        (Status(CODE.UNAVAILABLE, retry_after=1), False, ServerDraining),
        (Status(CODE.UNAVAILABLE, retry_after=1), True, ServerDraining),
        (Status(CODE.RESOURCE_EXHAUSTED, retry_after=1), False, ServerBusy),
        (Status(CODE.RESOURCE_EXHAUSTED), False, ServerBusy),
        (
            Status(CODE.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)"),
            True,
            MessageTooLarge,
        ),
        (Status(CODE.RESOURCE_EXHAUSTED, "message above the limit"), True, MessageTooLarge),
        (Status(CODE.UNAUTHENTICATED), False, AccessDenied),
        (Status(CODE.PERMISSION_DENIED), False, AccessDenied),
        (Status(CODE.UNIMPLEMENTED), False, ProtocolError),
        (Status(CODE.FAILED_PRECONDITION), True, ProtocolError),
        (Status(CODE.INVALID_ARGUMENT), False, InvalidConfig),
        (Status(CODE.INTERNAL), False, ServerError),
        (Status(CODE.UNAVAILABLE), True, ConnectionLost),
        (Status(CODE.INTERNAL), True, ConnectionLost),
        (Status(CODE.CANCELLED), True, ConnectionLost),
        (Status(CODE.UNKNOWN), True, ConnectionLost),
        (Status(CODE.DEADLINE_EXCEEDED), True, SessionClosed),
        (Status(CODE.ABORTED), True, SessionClosed),
    ],
)
def test_status_to_exception(status, started, expected):
    error = from_rpc_error(FakeError(status), "there:1", started=started)
    assert type(error) is expected and isinstance(error, TilestreamError)
    assert error.code == status.code.name and error.retry_after == status.retry_after
    assert "\n" not in str(error)


def test_the_fields_of_an_invalid_config():
    status = Status(
        CODE.INVALID_ARGUMENT, fields={"config.model": "must be one of a, b", "weight": "0.01..100"}
    )
    error = from_rpc_error(FakeError(status), "there:1", started=False)
    assert isinstance(error, InvalidConfig) and isinstance(error, ValueError)
    assert error.fields == (FieldError("model", "must be one of a, b"), FieldError("weight", "0.01..100"))
    assert str(error) == "model: must be one of a, b; weight: 0.01..100"


def test_a_fraction_of_a_second():
    error = from_rpc_error(FakeError(Status(CODE.RESOURCE_EXHAUSTED, retry_after=0.25)), "x", started=False)
    assert error.retry_after == 0.25 and "0.25 s" in str(error)


@pytest.mark.parametrize("trailers", [(), (("grpc-status-details-bin", b"\xff\xff"),), (("other", "x"),)])
def test_details_that_cannot_be_read_leave_code_and_message(trailers):
    error = from_rpc_error(FakeError(Status(CODE.INVALID_ARGUMENT, "no"), trailers), "x", started=False)
    assert isinstance(error, InvalidConfig) and str(error) == "no" and error.fields == ()


@pytest.mark.parametrize(
    ("reason", "wording"),
    [
        ("FULL", "is full"),
        ("OVERLOADED", "is overloaded"),
        ("ENGINE", "takes no more"),
        ("", "takes no more"),
    ],
)
def test_a_server_that_takes_no_more_sessions_says_why(reason, wording):
    status = Status(CODE.RESOURCE_EXHAUSTED, "because", retry_after=2, reason=reason)
    found = from_rpc_error(FakeError(status), "host:1", started=False)
    assert isinstance(found, ServerBusy) and found.retry_after == 2
    assert f"host:1 {wording}" in str(found) and "(try again in 2 s): because" in str(found)
