"""A span per frame, under the client's own, and what tells the server that it cannot trace."""

import logging
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.frames import jpeg
from support.server import Stream, running
from tilestream.telemetry.tracing import FrameTracer, TracingError, make_tracer
from tilestream.v1 import segmentation_pb2 as pb

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def traced(monkeypatch, *metadata):
    """The spans of a session of two frames, the second one broken, and what was answered."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("tilestream.server.make_tracer", lambda endpoint: FrameTracer(provider))
    async with running(trace_endpoint="http://collector:4317") as r:
        stream = Stream(r.stub.StreamSegment(metadata=metadata))
        await stream.send(config=pb.SessionConfig())
        started = (await stream.receive()).session_started
        await stream.frame(3, jpeg())
        await stream.frame(4, b"no")
        await stream.done()
        results = [response.result for response in await stream.rest()]
    return exporter.get_finished_spans(), started, results


async def test_one_span_per_frame_under_the_clients_own(monkeypatch):
    spans, started, results = await traced(monkeypatch, ("traceparent", f"00-{TRACE}-{PARENT}-01"))
    assert [span.name for span in spans] == ["tilestream.frame"] * 2
    for span, result in zip(spans, results, strict=True):
        assert f"{span.context.trace_id:032x}" == TRACE and f"{span.parent.span_id:016x}" == PARENT
        assert span.attributes["tilestream.session_id"] == started.session_id
        assert span.attributes["tilestream.frame_id"] == result.frame_id
        assert (span.end_time - span.start_time) / 1e3 == pytest.approx(result.times.total_us, abs=1)
    good, bad = (dict(span.attributes) for span in spans)
    assert good["tilestream.status"] == "ok" and "tilestream.reason" not in good
    decode = good["tilestream.stage.decode_seconds"]
    assert decode * 1e6 == pytest.approx(results[0].times.decode_us, abs=1)
    assert (bad["tilestream.status"], bad["tilestream.reason"]) == ("invalid", "not_jpeg")


@pytest.mark.parametrize("metadata", [(), (("traceparent", "nonsense"),)])
async def test_without_a_context_a_frame_is_a_trace_of_its_own(monkeypatch, metadata):
    spans, _, _ = await traced(monkeypatch, *metadata)
    assert [span.parent for span in spans] == [None, None]


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(TracingError, match=r"pip install .tilestream\[otel\]"):
        make_tracer("http://collector:4317")


async def test_log_lines_of_a_stream_name_its_session(monkeypatch, caplog):
    from tilestream.telemetry.logs import _add_session

    caplog.handler.addFilter(_add_session)
    monkeypatch.setattr(
        "tilestream.api.servicer.SegmentationServicer._greeting",
        lambda *_: (_ for _ in ()).throw(ValueError("x")),
    )
    with caplog.at_level(logging.INFO):
        async with running() as r:
            stream = Stream(r.stub.StreamSegment())
            await stream.send(config=pb.SessionConfig())
            await stream.rest()
    caplog.handler.removeFilter(_add_session)
    opened = next(x for x in caplog.records if x.getMessage() == "session opened")
    failed = next(x for x in caplog.records if x.levelno == logging.ERROR)
    assert failed.session == opened.session
