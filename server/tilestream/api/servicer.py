"""The calls of ``tilestream.v1.SegmentationService``."""

from __future__ import annotations

import asyncio
import time
from itertools import islice

import grpc

from tilestream import __version__
from tilestream.access.caller import Caller
from tilestream.api import convert, errors
from tilestream.api.callers import current_caller
from tilestream.api.first_request import first_request
from tilestream.api.live_sessions import LiveSession, LiveSessions
from tilestream.api.services import Services
from tilestream.api.session_stream import LOST, End, SessionStream
from tilestream.api.validation import offered_codecs, read_config
from tilestream.messages import EngineError, ModelInfo
from tilestream.sessions.registry import NotAdmitted
from tilestream.sessions.session import CloseCause, SessionState
from tilestream.telemetry.logs import log_session
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

DEFAULT_PAGE, MAX_PAGE = 100, 1000


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):  # type: ignore[misc]
    """Handlers of the service's calls; what they raise is mapped by the interceptor."""

    def __init__(self, services: Services, live_sessions: LiveSessions) -> None:
        self._services = services
        self._live_sessions = live_sessions

    async def StreamSegment(self, request_iterator: object, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Serve one session, a new one or one whose stream was lost, until it or this stream ends."""
        live, resumed = await self._enter(context)
        log_session(live.session.session_id)
        end = End(CloseCause.ERROR)
        try:
            stream = SessionStream(self._services, live, context, self._greeting(live, resumed))
            end = await stream.run()
        except asyncio.CancelledError:
            end = LOST
            raise
        finally:
            self._live_sessions.leave(live, end.cause, lost=end.lost)
        if end.error is not None:
            raise end.error

    async def _enter(self, context: grpc.aio.ServicerContext) -> tuple[LiveSession, bool]:
        """The session that the client asks for, and whether it went on over other streams before."""
        services, sessions = self._services, self._live_sessions
        caller = current_caller()
        try:
            if services.lifecycle.draining.is_set():
                services.registry.admit_anybody()
            config = await self._first_config(context, caller)
            limits, models = services.admission.settings(caller), self._models(caller)
            options = read_config(config, limits, models, services.engine.models)
            live = None
            if config.resume_token:
                last_result = config.last_result_id if config.HasField("last_result_id") else None
                live = await sessions.resume(config.resume_token, last_result, options, caller)
            if live is not None:
                return live, True
            return await sessions.open(options, caller), False
        except (NotAdmitted, EngineError) as problem:
            services.metrics.session_refused(problem.reason if isinstance(problem, NotAdmitted) else "engine")
            raise

    async def _first_config(self, context: grpc.aio.ServicerContext, caller: Caller) -> pb.SessionConfig:
        """The first request's config. A stream without one is given up after some seconds."""
        request = await first_request(context, self._services, caller, for_work=True)
        kind = None if request is grpc.aio.EOF else request.WhichOneof("request")
        if kind == "frame":
            raise errors.failed_precondition(
                "CONFIG_FIRST", "frame: sent before the config; allowed: a config as the first request"
            )
        if kind != "config":
            raise errors.invalid_argument("config", "missing", "a config as the first request of a stream")
        return request.config

    def _greeting(self, live: LiveSession, resumed: bool) -> pb.SessionStarted:
        services, session = self._services, live.session
        return pb.SessionStarted(
            session_id=session.session_id,
            resume_token=live.token,
            resumed=resumed,
            last_frame_id=session.last_frame_id,
            model=convert.model_message(
                session.options.model, session.options.model is self._models(session.caller)[0]
            ),
            config=convert.config_message(session.options),
            limits=convert.limits_message(services.admission.settings(session.caller), services.engine),
        )

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetServerInfoResponse:
        """What this server is and what it offers."""
        services, caller, now = self._services, current_caller(), time.time()
        return pb.GetServerInfoResponse(
            version=__version__,
            device=services.engine.device,
            precision=services.engine.precision,
            start_time_us=round((now - (services.clock.now() - services.started)) * 1e6),
            draining=services.lifecycle.draining.is_set(),
            sessions=len(services.visible_sessions(caller)),
            max_sessions=services.settings.max_sessions,
            limits=convert.limits_message(services.admission.settings(caller), services.engine),
            frame_codecs=sorted(offered_codecs(services.settings)),
            mask_encodings=list(convert.MASK_FORMATS),
            queue_policies=list(convert.QUEUE_POLICIES),
            default_model=self._models(caller)[0].name,
            time_us=round(now * 1e6),
        )

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListModelsResponse:
        """The models that the caller may use, its default first."""
        models = self._models(current_caller())
        return pb.ListModelsResponse(
            models=[convert.model_message(model, index == 0) for index, model in enumerate(models)]
        )

    async def ListSessions(  # noqa: N802
        self, request: pb.ListSessionsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListSessionsResponse:
        """Live sessions, oldest first, a page at a time: the caller's own, or all where it may see them."""
        token = request.page_token
        if token and (not token.isdecimal() or len(token) > 18):
            raise errors.invalid_argument("page_token", repr(token[:40]), "a next_page_token of this call")
        after = int(token) if token else 0
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        visible = self._services.visible_sessions(current_caller())
        live = [session for session in visible if session.state is not SessionState.OPENING]
        rest = list(islice((session for session in live if session.number > after), size + 1))
        now = self._services.clock.now()
        return pb.ListSessionsResponse(
            sessions=[convert.session_message(session, now) for session in rest[:size]],
            next_page_token=str(rest[size - 1].number) if len(rest) > size else "",
            total=len(live),
            time_us=round(time.time() * 1e6),
        )

    def _models(self, caller: Caller) -> tuple[ModelInfo, ...]:
        """Those that a caller may use, its default first."""
        return self._services.admission.models(caller, self._services.engine.models)
