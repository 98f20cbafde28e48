"""The calls of ``tilestream.v1.SegmentationService``."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable
from itertools import islice
from typing import TypeVar

import grpc

from tilestream import __version__
from tilestream.api import convert, errors
from tilestream.api.services import Services
from tilestream.api.session_stream import End, SessionStream
from tilestream.api.validation import FRAME_CODECS, read_config
from tilestream.messages import SessionSpec
from tilestream.sessions.registry import NotAdmitted, ServerDraining
from tilestream.sessions.session import CloseCause, Session, SessionState
from tilestream.telemetry.logs import log_session
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

log = logging.getLogger(__name__)
T = TypeVar("T")

RESUME_TOKEN_BYTES = 32
DEFAULT_PAGE, MAX_PAGE = 100, 1000


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):  # type: ignore[misc]
    """Handlers of the service's calls; what they raise is mapped by the interceptor."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def StreamSegment(self, request_iterator: object, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Serve one session from its config to its end."""
        services = self._services
        try:
            if services.lifecycle.draining.is_set():
                services.registry.admit()
            options = read_config(
                await self._first_config(context), services.settings, services.engine.models
            )
            session = services.registry.open(options)
        except NotAdmitted:
            services.metrics.session_refused()
            raise
        log_session(session.session_id)
        log.info("session opened", extra={"session": session.session_id, "camera": options.camera_id})
        services.metrics.session_opened()
        end = End(CloseCause.ERROR)
        try:
            end = await self._serve(session, context)
        except asyncio.CancelledError:
            end = End(CloseCause.DISCONNECTED)
            raise
        finally:
            services.engine_loop.release(session.session_id)
            services.registry.close(session, end.cause)
        if end.error is not None:
            raise end.error

    async def _serve(self, session: Session, context: grpc.aio.ServicerContext) -> End:
        options = session.options
        spec = SessionSpec(
            session.session_id, options.model.name, options.include_confidence, options.include_bins
        )
        await asyncio.wrap_future(self._services.engine_loop.open(spec, options.weight))
        stream = SessionStream(self._services, session, context)
        try:
            session.move_to(SessionState.ACTIVE)
            await context.write(self._started(session))
            return await stream.run()
        finally:
            stream.pipeline.close()

    async def _first_config(self, context: grpc.aio.ServicerContext) -> pb.SessionConfig:
        """The first request's config. A stream without one is given up after the idle time-out."""
        request = await self._unless_draining(context.read())
        kind = None if request is grpc.aio.EOF else request.WhichOneof("request")
        if kind == "frame":
            raise errors.failed_precondition(
                "CONFIG_FIRST", "frame: sent before the config; allowed: a config as the first request"
            )
        if kind != "config":
            raise errors.invalid_argument("config", "missing", "a config as the first request of a stream")
        return request.config

    async def _unless_draining(self, awaitable: Awaitable[T]) -> T:
        services = self._services
        wanted = asyncio.ensure_future(awaitable)
        draining = asyncio.ensure_future(services.lifecycle.draining.wait())
        try:
            timeout = services.settings.idle_timeout or None
            await asyncio.wait({wanted, draining}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            if draining.done():
                raise ServerDraining("the server is shutting down", services.settings.retry_delay)
            raise errors.deadline_exceeded(f"no request for {timeout:g} s")
        finally:
            wanted.cancel()
            draining.cancel()

    def _started(self, session: Session) -> pb.StreamSegmentResponse:
        services, options = self._services, session.options
        started = pb.SessionStarted(
            session_id=session.session_id,
            resume_token=secrets.token_bytes(RESUME_TOKEN_BYTES),
            model=convert.model_message(options.model, options.model is services.engine.models[0]),
            config=convert.config_message(options),
            limits=convert.limits_message(services.settings),
        )
        return pb.StreamSegmentResponse(session_started=started)

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetServerInfoResponse:
        """What this server is and what it offers."""
        services = self._services
        return pb.GetServerInfoResponse(
            version=__version__,
            device=services.engine.device,
            precision=services.engine.precision,
            start_time_us=round(services.start_time * 1e6),
            draining=services.lifecycle.draining.is_set(),
            sessions=len(services.registry),
            max_sessions=services.settings.max_sessions,
            limits=convert.limits_message(services.settings),
            frame_codecs=sorted(FRAME_CODECS),
            mask_encodings=list(convert.MASK_FORMATS),
            queue_policies=list(convert.QUEUE_POLICIES),
            default_model=services.engine.models[0].name,
        )

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListModelsResponse:
        """The models, the default first."""
        models = self._services.engine.models
        return pb.ListModelsResponse(
            models=[convert.model_message(model, index == 0) for index, model in enumerate(models)]
        )

    async def ListSessions(  # noqa: N802
        self, request: pb.ListSessionsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListSessionsResponse:
        """Live sessions, oldest first, a page at a time."""
        token = request.page_token
        if token and (not token.isdecimal() or len(token) > 18):
            raise errors.invalid_argument("page_token", repr(token[:40]), "a next_page_token of this call")
        after = int(token) if token else 0
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        live = [session for session in self._services.registry if session.state is not SessionState.OPENING]
        rest = list(islice((session for session in live if session.number > after), size + 1))
        now = time.monotonic()
        return pb.ListSessionsResponse(
            sessions=[convert.session_message(session, now) for session in rest[:size]],
            next_page_token=str(rest[size - 1].number) if len(rest) > size else "",
            total=len(live),
        )
