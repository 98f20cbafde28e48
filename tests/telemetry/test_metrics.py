"""What the metrics count, and that their documentation is complete."""

import asyncio
import math
import re
import threading
from pathlib import Path

import grpc
import pytest

from support.fake_engine import FakeEngine
from support.frames import jpeg
from support.server import config, refused, running
from support.waiting import until
from tilestream.messages import STAGES, DropReason, EngineReport, FrameStats, InvalidReason
from tilestream.scheduling.overload import Level, LoadReport, Remedy
from tilestream.sessions.registry import NotAdmitted
from tilestream.sessions.session import CloseCause
from tilestream.telemetry.metrics import Metrics
from tilestream.v1 import segmentation_pb2 as pb

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
STREAM = {
    "grpc_type": "bidi_stream",
    "grpc_service": "tilestream.v1.SegmentationService",
    "grpc_method": "StreamSegment",
}


SERVICE_METHODS = pb.DESCRIPTOR.services_by_name["SegmentationService"].methods_by_name


def total(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of all series of a metric that have these labels."""
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_docs_name_every_metric_with_its_type_and_nothing_else():
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE))
    families = Metrics().registry.collect()
    defined = {f.name + "_total" * (f.type == "counter"): f.type for f in families}
    assert documented == defined


def test_no_label_names_a_session():
    metrics = Metrics()
    names = {name for c in metrics.registry._collector_to_names for name in getattr(c, "_labelnames", ())}
    assert names.isdisjoint({"session", "session_id", "camera", "camera_id", "peer"})
    assert {"reason", "kind", "stage", "cause", "stride"} <= names


def test_the_first_event_of_any_kind_is_an_increase():
    """Series with known labels begin at 0, and these labels are all that there are."""
    metrics = Metrics()
    for name, label, kinds in (
        ("tilestream_frames_dropped_total", "reason", DropReason),
        ("tilestream_frames_invalid_total", "reason", InvalidReason),
        ("tilestream_sessions_closed_total", "cause", CloseCause),
    ):
        assert values_of(metrics, name, label) == {kind.value: 0 for kind in kinds}
    reasons = {kind.reason for kind in NotAdmitted.__subclasses__()} | {"engine"}
    assert values_of(metrics, "tilestream_sessions_refused_total", "reason") == dict.fromkeys(reasons, 0)
    stages = {name.removesuffix("_us") for name in pb.StageTimes.DESCRIPTOR.fields_by_name}
    found = values_of(metrics, "tilestream_stage_seconds_count", "stage")
    assert found == dict.fromkeys(stages - {"total", "engine"}, 0)


def values_of(metrics: Metrics, name: str, label: str) -> dict[str, float]:
    return {
        sample.labels[label]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


async def test_calls_begin_at_zero_with_every_code():
    async with running() as r:
        value = r.server.metrics.registry.get_sample_value
        for method in SERVICE_METHODS:
            kind = "bidi_stream" if method == "StreamSegment" else "unary"
            labels = {**STREAM, "grpc_method": method, "grpc_type": kind}
            assert value("grpc_server_started_total", labels) == 0
            for code in grpc.StatusCode:
                assert value("grpc_server_handled_total", {**labels, "grpc_code": code.name}) == 0


def test_rates_of_the_last_seconds():
    now = [100.0]
    metrics = Metrics(lambda: now[0])
    value = metrics.registry.get_sample_value
    assert value("tilestream_fps") == value("tilestream_block_drop_rate_ratio") == 0
    for _ in range(20):
        now[0] += 0.1
        by_stride = {4: (20, 50), 8: (5, 50)}
        stats = FrameStats(False, 25, 100, 3.0, 0.5, units_by_stride=by_stride)
        metrics.frame_answered("ok", "", 0.03, {"decode": 0.002}, stats, 1000)
    metrics.frame_answered("dropped", "queue_full", 0.5, {"decode": 0.0}, None)
    assert value("tilestream_fps") == pytest.approx(10.0)
    assert value("tilestream_block_drop_rate_ratio") == pytest.approx(0.75)
    assert value("tilestream_block_budget_ratio") == pytest.approx(0.5)
    assert value("tilestream_block_units_computed_total", {"stride": "4"}) == 400
    assert value("tilestream_block_units_dropped_total", {"stride": "8"}) == 900
    assert value("tilestream_frame_distortion_luma_sum") == pytest.approx(60.0)
    assert value("tilestream_frame_latency_seconds_count") == 20
    assert value("tilestream_stage_seconds_count", {"stage": "decode"}) == 20
    assert value("tilestream_mask_bytes_total") == 20_000
    assert math.isnan(value("tilestream_reuse_agreement_ratio"))
    for pixels, agreement in ((300, 1.0), (100, 0.6)):
        stats = FrameStats(False, 25, 100, 3.0, 0.5, agreement=agreement, agreement_pixels=pixels)
        metrics.frame_answered("ok", "", 0.03, {}, stats)
    assert value("tilestream_reuse_agreement_ratio") == pytest.approx(0.9)
    assert value("tilestream_reuse_compared_pixels_total") == 400
    assert value("tilestream_reuse_changed_pixels_total") == pytest.approx(40)
    now[0] += 60
    assert math.isnan(value("tilestream_reuse_agreement_ratio"))
    assert value("tilestream_fps") == value("tilestream_block_budget_ratio") == 0


def test_what_the_engine_reports():
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    stages = {"gate": 0.01, "backbone": 0.03}
    metrics.step_done(3, 0.05, EngineReport("cuda:0", 7, 5, 10, 20, 1, 2, 30, 40, 0.5), stages=stages)
    metrics.step_done(1, 0.05, EngineReport("cuda:0", 7, 6, 11, 20, 1, 2, 30, 40, 0.5))
    metrics.step_done(1, 0.05, None)
    assert value("tilestream_step_sessions_sum") == 5 and value("tilestream_step_seconds_count") == 3
    assert value("tilestream_step_tiles_sum") == 14
    assert values_of(metrics, "tilestream_step_stage_seconds_sum", "stage") == {
        **dict.fromkeys(STAGES, 0.0),
        **stages,
    }
    assert value("tilestream_evictions_total") == 6
    assert value("tilestream_feature_store_bytes") == 11
    assert value("tilestream_device_utilisation_ratio", {"device": "cuda:0"}) == 0.5
    metrics.step_done(1, 0.05, EngineReport("cuda:0", 7, evictions=2))  # a new engine counts from 0
    assert value("tilestream_evictions_total") == 8


def test_several_engines_are_added_up_and_the_busiest_one_is_told_of():
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    metrics.step_done(1, 0.1, EngineReport(evictions=3, store_bytes=10, store_pages=1), engine=0)
    metrics.step_done(1, 0.1, EngineReport(evictions=2, store_bytes=5, store_pages=2), engine=1)
    metrics.step_done(1, 0.1, EngineReport(evictions=4, store_bytes=7, store_pages=1), engine=0)
    metrics.engine_reported(EngineReport(evictions=0, store_bytes=1, restarts=1), engine=1)
    assert value("tilestream_evictions_total") == 6 and value("tilestream_engine_restarts_total") == 1
    assert value("tilestream_feature_store_bytes") == 8 and value("tilestream_feature_store_pages") == 1
    assert value("tilestream_step_seconds_count") == 3  # a report without a step is not one
    loads = [LoadReport(Level.REDUCED, 0.5, 1.2), LoadReport(Level.NORMAL, 1.0, 0.4)]
    metrics.ask_loads(lambda: loads)
    assert value("tilestream_overload_level") == 1 and value("tilestream_budget_scale_ratio") == 0.5
    assert value("tilestream_budgets_help") == 1
    loads[0] = LoadReport(Level.NORMAL, 0.9, 0.3, remedy=Remedy.NONE)
    assert value("tilestream_overload_level") == 0 and value("tilestream_demand_ratio") == 0.4
    assert value("tilestream_budgets_help") == 0


def test_a_device_that_does_not_tell_has_no_series():
    metrics = Metrics()
    metrics.step_done(1, 0.05, EngineReport())
    assert not [
        s for f in metrics.registry.collect() if "device_" in f.name for s in f.samples if s.name == f.name
    ]


async def test_counters_add_up_to_what_clients_saw():
    engine = FakeEngine()
    engine.whole_interval = 3
    async with running(engine, max_sessions=2) as r:
        seen = await asyncio.gather(*(drive(r, frames) for frames in (7, 5)))
        held = [await r.open(), await r.open()]
        third = r.stub.StreamSegment()
        await third.write(pb.StreamSegmentRequest(config=pb.SessionConfig()))
        assert await third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in held:
            await stream.done()
            await stream.rest()
        await r.stub.GetServerInfo(pb.GetServerInfoRequest())
        await until(lambda: not len(r.server.registry))
        results = [result for results in seen for result in results]
        check(r.server.metrics, results, sent=7 + 5)


async def test_every_accepted_frame_is_accounted_for_when_clients_vanish():
    gate = threading.Event()
    async with running(FakeEngine(gate), resume_ttl=0) as r:
        stream = await r.open(frames_in_flight=3, queue_policy=pb.QUEUE_POLICY_WAIT)
        for i in range(3):
            await stream.frame(i, jpeg())
        metrics = r.server.metrics
        await until(lambda: total(metrics, "tilestream_frames_received_total") == 3)
        assert total(metrics, "tilestream_frames_unanswered_total") == 0
        stream.call.cancel()
        await until(lambda: not len(r.server.registry))
        assert total(metrics, "tilestream_frames_unanswered_total") == 3
        gate.set()
        after = await r.open()
        await after.frame(0, jpeg())
        await after.result()
        await until(lambda: total(metrics, "tilestream_frames_completed_total"))
        assert total(metrics, "tilestream_frames_completed_total") == 1
        assert total(metrics, "tilestream_frames_unanswered_total") == 3


async def test_refusals_by_reason():
    engine = FakeEngine()
    engine.refuse_open = True
    async with running(engine, max_sessions=1) as r:
        stream = await refused(r, config())
        assert await stream.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        engine.refuse_open = False
        await r.open()
        await refused(r, config())
        found = values_of(r.server.metrics, "tilestream_sessions_refused_total", "reason")
        assert found == {"engine": 1, "full": 1, "quota": 0, "decoders": 0, "overloaded": 0, "shutdown": 0}


async def drive(r, frames: int):
    """A session; every fifth frame is no JPEG. Returns what came back."""
    stream = await r.open(include_confidence=True)

    async def send():
        for i in range(frames):
            await stream.frame(i, b"no" if i % 5 == 4 else jpeg())
        await stream.done()

    sending = asyncio.ensure_future(send())
    results = await stream.results()
    await sending
    return results


def check(metrics: Metrics, results: list[pb.FrameResult], sent: int) -> None:
    ok = [x for x in results if x.status == pb.FRAME_STATUS_OK]
    keys = [x for x in ok if x.reuse.key_frame]
    assert len(results) == sent and len(ok) == sent - 2 and 0 < len(keys) < len(ok)
    assert total(metrics, "tilestream_frames_received_total") == sent
    assert total(metrics, "tilestream_frames_completed_total", kind="key") == len(keys)
    assert total(metrics, "tilestream_frames_completed_total", kind="partial") == len(ok) - len(keys)
    assert total(metrics, "tilestream_frames_invalid_total", reason="not_jpeg") == 2
    assert total(metrics, "tilestream_frames_dropped_total") == 0
    assert total(metrics, "tilestream_frames_unanswered_total") == 0
    assert total(metrics, "tilestream_block_units_computed_total") == sum(x.reuse.units_computed for x in ok)
    assert total(metrics, "tilestream_block_units_dropped_total") == sum(x.reuse.units_dropped for x in ok)
    assert total(metrics, "tilestream_mask_bytes_total") == sum(
        len(x.mask.data) + len(x.confidence.data) for x in ok
    )
    assert total(metrics, "tilestream_jpeg_bytes_total") == len(jpeg()) * len(ok) + 2 * len(b"no")
    assert total(metrics, "tilestream_frame_latency_seconds_count") == len(ok)
    latency = sum(x.times.total_us for x in ok) / 1e6
    assert total(metrics, "tilestream_frame_latency_seconds_sum") == pytest.approx(latency, abs=1e-4)
    encode = sum(x.times.encode_us for x in ok) / 1e6
    assert total(metrics, "tilestream_stage_seconds_sum", stage="encode") == pytest.approx(encode, abs=1e-4)
    assert total(metrics, "tilestream_scheduler_lag_seconds_count") == len(ok)
    assert total(metrics, "tilestream_step_sessions_sum") == len(ok)
    backbone = sum(x.times.backbone_us for x in ok) / 1e6
    spent = total(metrics, "tilestream_step_stage_seconds_sum", stage="backbone")
    assert spent == pytest.approx(backbone, abs=1e-6) and backbone > 0
    assert total(metrics, "tilestream_feature_store_bytes") == 1000
    assert (
        total(metrics, "tilestream_sessions_opened_total") == 4 and total(metrics, "tilestream_sessions") == 0
    )
    assert total(metrics, "tilestream_sessions_closed_total", cause="finished") == 4
    assert total(metrics, "tilestream_sessions_refused_total") == 1
    assert total(metrics, "grpc_server_started_total", **STREAM) == 5
    assert total(metrics, "grpc_server_handled_total", grpc_code="OK", **STREAM) == 4
    assert total(metrics, "grpc_server_handled_total", grpc_code="RESOURCE_EXHAUSTED", **STREAM) == 1
    assert total(metrics, "grpc_server_handled_total", grpc_code="OK", grpc_method="GetServerInfo") == 1
    assert total(metrics, "grpc_server_msg_received_total", **STREAM) == 5 + sent
    said = total(metrics, "grpc_server_msg_sent_total", **STREAM)
    assert 4 + sent <= said <= 8 + sent  # a heartbeat for every stream that ended after its last answer
