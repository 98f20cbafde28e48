"""A span per frame, under the client's own, and what tells the server that it cannot trace."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.frames import jpeg
from support.processes import environment
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
        results = await stream.results()
    return exporter.get_finished_spans(), started, results


def test_a_collector_on_this_machine_is_asked_through_no_proxy(monkeypatch):
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:1")  # where nobody listens
    received = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, context):
            received.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tracer = make_tracer(f"http://localhost:{port}")
    tracer.frame(tracer.parent(()), "s-1", 0, "ok", "", 0.1, {})
    tracer.close()
    server.stop(0).wait()
    assert len(received) == 1


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


async def test_a_span_has_every_stage_that_the_result_has(monkeypatch):
    (good, bad), _, (first, _) = await traced(monkeypatch)
    stages = {
        name.removeprefix("tilestream.stage.").removesuffix("_seconds"): value
        for name, value in good.attributes.items()
        if name.startswith("tilestream.stage.")
    }
    assert set(stages) == {"queue", "decode", "backbone", "encode"}  # of those, the fake engine has one
    for name, seconds in stages.items():
        assert seconds * 1e6 == pytest.approx(getattr(first.times, f"{name}_us"), abs=1)
    assert not any("backbone" in name for name in bad.attributes)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector."""

    def __init__(self):
        self.spans = []

    def Export(self, request, context):
        self.spans += [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_spans_reach_a_collector():
    collector = Collector()
    otlp = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, otlp)
    port = otlp.add_insecure_port("127.0.0.1:0")
    otlp.start()
    async with running(trace_endpoint=f"http://127.0.0.1:{port}") as r:
        stream = Stream(r.stub.StreamSegment(metadata=(("traceparent", f"00-{TRACE}-{PARENT}-01"),)))
        await stream.send(config=pb.SessionConfig())
        for i in range(5):
            await stream.frame(i, jpeg())
        await stream.done()
        await stream.rest()
    otlp.stop(None)  # the server has sent what it had when it stopped
    assert [span.name for span in collector.spans] == ["tilestream.frame"] * 5
    assert {(s.trace_id.hex(), s.parent_span_id.hex()) for s in collector.spans} == {(TRACE, PARENT)}


async def test_there_are_no_traces_unless_they_are_asked_for():
    async with running() as r:
        assert r.server.tracer is None
    code = "import sys, tilestream.server; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


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
