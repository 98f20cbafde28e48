"""A small scripted server on a loopback socket: it speaks the protocol, computes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import cv2
import grpc
import numpy as np
from fake_answers import MODEL, Status, abort, bin_account, encode_mask, labels_for

from tilestream_client.v1 import segmentation_pb2 as pb
from tilestream_client.v1 import segmentation_pb2_grpc as rpc


@dataclass
class Script:
    """How the server behaves.

    fate: of a frame: "ok", "dropped" or "invalid". hold: frames that must be unanswered before one is
    answered (until the client half-closes). gate: while not set, nothing is answered. The ``*_after``
    count answers given.
    """

    fate: Callable[[int], str] = lambda frame_id: "ok"
    refuse: Status | None = None
    mute: bool = False
    hold: int = 1
    gate: threading.Event | None = None
    delay: float = 0.0
    abort_after: tuple[int, Status] | None = None
    end_after: int | None = None
    drain_after: int | None = None
    noise: bool = False
    wrong_id_after: int | None = None
    limits: dict[str, int] = field(default_factory=dict)
    config: dict[str, int] = field(default_factory=dict)
    sessions: int = 0
    credentials: grpc.ServerCredentials | None = None  # None: plain text


@dataclass
class Record:
    """What one stream saw."""

    config: pb.SessionConfig | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    frames: list[pb.Frame] = field(default_factory=list)
    heartbeats: int = 0
    answers: int = 0
    max_unanswered: int = 0
    half_closed: bool = False  # a cancelled stream looks like this too, before it is over
    over: threading.Event = field(default_factory=threading.Event)


class FakeServer(rpc.SegmentationServiceServicer):
    """Runs in a thread with an event loop of its own."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.records: list[Record] = []
        self.target = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *exc: object) -> None:
        self._run(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def kill(self) -> None:
        """Cut every connection."""
        self._run(self._server.stop(None))

    def _run(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(30)

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        rpc.add_SegmentationServiceServicer_to_server(self, self._server)
        address, credentials = "127.0.0.1:0", self.script.credentials
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{port}"
        await self._server.start()

    # The unary methods.

    async def GetServerInfo(self, request: Any, context: Any) -> pb.GetServerInfoResponse:
        if self.script.refuse:
            await abort(context, self.script.refuse)
        return pb.GetServerInfoResponse(
            version="9.9.9",
            device="cpu",
            precision="fp32",
            max_sessions=4,
            limits=self._limits(),
            mask_encodings=[1, 2, 77],
            queue_policies=[1],
            default_model="fake",
        )

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[MODEL])

    async def ListSessions(self, request: Any, context: Any) -> pb.ListSessionsResponse:
        first = int(request.page_token or 0)
        last = min(first + 3, self.script.sessions)
        return pb.ListSessionsResponse(
            sessions=[
                pb.Session(session_id=f"s{index}", camera_id=f"c{index}") for index in range(first, last)
            ],
            next_page_token=str(last) if last < self.script.sessions else "",
            total=self.script.sessions,
        )

    # The stream.

    async def StreamSegment(self, requests: Any, context: Any) -> AsyncIterator[pb.StreamSegmentResponse]:
        record = Record(metadata=dict(context.invocation_metadata()))
        self.records.append(record)
        try:
            async for response in self._session(requests, context, record):
                yield response
        finally:
            record.over.set()

    async def _session(self, requests: Any, context: Any, record: Record) -> Any:
        script = self.script
        record.config = (await anext(aiter(requests))).config
        if script.refuse:
            await abort(context, script.refuse)
        if script.mute:
            await asyncio.sleep(3600)
        yield self._started(record)
        waiting: deque[pb.Frame] = deque()
        changed = asyncio.Condition()
        reader = asyncio.create_task(self._read(requests, record, waiting, changed))
        try:
            while (frame := await self._next(record, waiting, changed)) is not None:
                async for response in self._answers(frame, record, context):
                    yield response
                record.answers += 1
                if script.end_after is not None and record.answers >= script.end_after:
                    return
                if script.drain_after == record.answers:
                    yield pb.StreamSegmentResponse(
                        draining=pb.DrainingNotice(reason=1, grace_ms=500, retry_delay_ms=1500)
                    )
                if script.abort_after and script.abort_after[0] == record.answers:
                    await abort(context, script.abort_after[1])
        finally:
            reader.cancel()

    def _started(self, record: Record) -> pb.StreamSegmentResponse:
        config = pb.SessionConfig()
        config.CopyFrom(record.config)
        config.frames_in_flight = config.frames_in_flight or 2
        for name, value in self.script.config.items():
            setattr(config, name, value)
        return pb.StreamSegmentResponse(
            session_started=pb.SessionStarted(
                session_id="s1", resume_token=b"secret", model=MODEL, config=config, limits=self._limits()
            )
        )

    async def _read(self, requests: Any, record: Record, waiting: Any, changed: Any) -> None:
        async for request in requests:
            async with changed:
                if request.WhichOneof("request") == "heartbeat":
                    record.heartbeats += 1
                else:
                    record.frames.append(request.frame)
                    waiting.append(request.frame)
                record.max_unanswered = max(record.max_unanswered, len(waiting))
                changed.notify_all()
        async with changed:
            record.half_closed = True
            changed.notify_all()

    async def _next(self, record: Record, waiting: Any, changed: Any) -> pb.Frame | None:
        script = self.script
        async with changed:
            await changed.wait_for(lambda: len(waiting) >= script.hold or record.half_closed)
            if not waiting:
                return None
        while script.gate is not None and not script.gate.is_set():
            await asyncio.sleep(0.005)
        await asyncio.sleep(script.delay)
        return waiting.popleft()  # the client may react to the answer before the fake goes on

    async def _answers(self, frame: pb.Frame, record: Record, context: Any) -> Any:
        if self.script.noise:
            yield pb.StreamSegmentResponse(heartbeat=pb.Heartbeat(time_us=1))
            yield pb.StreamSegmentResponse()  # of a kind that is newer than the client
        frame_id = frame.frame_id + (self.script.wrong_id_after == record.answers)
        yield pb.StreamSegmentResponse(result=self.result(frame, frame_id, record.config))

    def result(self, frame: pb.Frame, frame_id: int, config: pb.SessionConfig) -> pb.FrameResult:
        fate = self.script.fate(frame.frame_id)
        result = pb.FrameResult(frame_id=frame_id, capture_time_us=frame.capture_time_us)
        result.times.total_us = 1500
        result.times.tables_us = 250
        if fate == "dropped":
            result.status, result.drop_reason = pb.FRAME_STATUS_DROPPED, pb.DROP_REASON_QUEUE_FULL
            return result
        image = (
            cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_GRAYSCALE) if frame.data else None
        )
        if fate == "invalid" or image is None:
            result.status, result.invalid_reason = pb.FRAME_STATUS_INVALID, pb.INVALID_REASON_NOT_JPEG
            result.detail = "no SOI marker"
            return result
        result.status = pb.FRAME_STATUS_OK
        height, width = image.shape
        if config.HasField("output_size"):
            width, height = config.output_size.width, config.output_size.height
        result.mask.CopyFrom(encode_mask(labels_for(frame.frame_id, width, height), config.mask_encoding))
        result.reuse.CopyFrom(
            pb.ReuseStats(
                key_frame=frame.frame_id == 0,
                units_computed=100 if frame.frame_id == 0 else 40,
                units_dropped=0 if frame.frame_id == 0 else 60,
                block_budget=0.4,
                agreement=None if frame.frame_id == 0 else 0.9,
            )
        )
        self._extras(result, config, (image.shape[1], image.shape[0]))
        return result

    def _extras(self, result: pb.FrameResult, config: pb.SessionConfig, frame: tuple[int, int]) -> None:
        if config.include_bins:
            compute, own = config.compute_size, config.HasField("compute_size")
            result.bins.CopyFrom(bin_account(*((compute.width, compute.height) if own else frame)))
        if config.include_confidence:
            width, height = result.mask.width, result.mask.height
            data = np.full((height, width), 200, np.uint8).tobytes()
            result.confidence.CopyFrom(
                pb.ConfidenceMap(width=width, height=height, encoding=pb.MASK_ENCODING_RAW, data=data)
            )

    def _limits(self) -> pb.SessionLimits:
        return pb.SessionLimits(
            **{"max_message_bytes": 1 << 20, "max_frame_side": 4096, **self.script.limits}
        )
