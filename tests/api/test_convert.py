"""The API's enums and the server's own have the same members."""

from dataclasses import replace

import pytest

from support.fake_engine import fake_model
from tilestream.api import convert
from tilestream.api.errors import ApiError, to_api_error, to_status
from tilestream.media.masks import MaskFormat
from tilestream.messages import STAGES, DropReason, Failure, FrameStats, InvalidReason
from tilestream.results.findings import ClassArea, EventKind, Findings
from tilestream.sessions.frames import Answer, Status, Ticket
from tilestream.sessions.inbox import QueuePolicy
from tilestream.v1 import segmentation_pb2 as pb


@pytest.mark.parametrize(
    ("wire", "ours", "prefix"),
    [
        (pb.MaskEncoding, MaskFormat, "MASK_ENCODING_"),
        (pb.QueuePolicy, QueuePolicy, "QUEUE_POLICY_"),
        (pb.FrameStatus, Status, "FRAME_STATUS_"),
        (pb.DropReason, DropReason, "DROP_REASON_"),
        (pb.InvalidReason, InvalidReason, "INVALID_REASON_"),
        (pb.EventKind, EventKind, "EVENT_KIND_"),
    ],
)
def test_members_correspond(wire, ours, prefix):
    assert {name.removeprefix(prefix) for name in wire.DESCRIPTOR.values_by_name} - {"UNSPECIFIED"} == {
        m.name for m in ours
    }


@pytest.mark.parametrize(
    "failure",
    [
        *(Failure.dropped(reason, "too late") for reason in DropReason),
        *(Failure.invalid(reason, "too large") for reason in InvalidReason),
    ],
    ids=lambda failure: failure.reason.value,
)
def test_every_failure_is_told_with_its_reason_and_detail(failure):
    ticket = Ticket(1, 0, 0.0)
    assert ticket.fail(failure)
    result = convert.result_response(ticket, ticket.known_answer, 0.0).result
    assert pb.FrameStatus.Name(result.status) == f"FRAME_STATUS_{failure.kind.name}"
    dropped = pb.DropReason.Name(result.drop_reason).removeprefix("DROP_REASON_")
    invalid = pb.InvalidReason.Name(result.invalid_reason).removeprefix("INVALID_REASON_")
    assert {dropped, invalid} == {failure.reason.name, "UNSPECIFIED"} and result.detail == failure.detail


def test_the_engine_s_stages_are_the_api_s():
    seconds = {stage: 0.001 * (number + 1) for number, stage in enumerate(STAGES)}
    ticket = Ticket(1, 0, 0.0, engine_seconds=0.02, stage_seconds={**seconds, "unheard_of": 1.0})
    times = convert.result_response(ticket, Answer(), 0.03).result.times
    assert [getattr(times, f"{stage}_us") for stage in STAGES] == [1000, 2000, 3000, 4000, 5000, 6000]


@pytest.mark.parametrize(("classes", "most"), [(8, 199), (11, 226)])
def test_a_result_of_areas_alone_is_small_whatever_it_took(classes, most):
    """Every time and all of the account told, as large as they are on two cores, after an hour at 15 Hz."""
    seconds = dict.fromkeys(STAGES, 0.05)
    ticket = Ticket(54_000, 1_795_000_000_000_000, 0.0, engine_seconds=0.1, stage_seconds=seconds)
    ticket.decode_seconds = ticket.encode_seconds = 0.005
    stats = FrameStats(False, 900, 2000, 1.5, 0.5, 12_000_000_000, agreement=0.9)
    areas = tuple(ClassArea(value, 921_600 // classes, 1 / classes) for value in range(classes))
    answer = Answer(stats=stats, findings=Findings(areas))
    assert convert.result_response(ticket, answer, 0.3).result.ByteSize() <= most


def test_every_state_that_is_listed_has_a_name():
    for state, wire in convert._STATES.items():
        assert pb.SessionState.Name(wire) == f"SESSION_STATE_{state.name}"


@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), OSError("/secret")])
def test_unexpected_errors_become_incidents(error):
    mapped = to_api_error(error)
    assert mapped.code.name == "INTERNAL" and "secret" not in mapped.message
    status = to_status(mapped)
    assert status.code is mapped.code and "secret" not in str(status.trailing_metadata)


def test_api_errors_stay_themselves():
    import grpc

    error = ApiError(grpc.StatusCode.NOT_FOUND, "no")
    assert to_api_error(error) is error


def test_a_model_s_line_for_people_tells_its_gate():
    described = [
        convert.model_message(replace(fake_model("m"), gate=gate), True).description
        for gate in ("", "learned")
    ]
    assert described == ["labels are gray values", "labels are gray values, gate learned"]
