"""The server: puts the parts together, runs them, and takes them down in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tilestream import __version__
from tilestream.access.caller import Caller
from tilestream.access.from_settings import make_admission, make_authenticator
from tilestream.access.refusals import AccessFileError
from tilestream.api.admission import AdmissionInterceptor
from tilestream.api.call_metrics import MetricsInterceptor
from tilestream.api.health import HealthServicer
from tilestream.api.interceptors import ErrorInterceptor
from tilestream.api.live_sessions import LiveSessions
from tilestream.api.media_threads import MediaThreads
from tilestream.api.servicer import SegmentationServicer
from tilestream.api.services import Lifecycle, OutcomeRouter, Services
from tilestream.clock import Clock
from tilestream.config import Settings, is_local
from tilestream.engine import ENGINE_MODULE, EngineOptions, create_engine
from tilestream.engine_process import EngineProcess, ProcessEngine, count_engines, preload
from tilestream.listening import Listener, ListenError, bracketed, listen, unbracketed
from tilestream.messages import Codec, Engine, EngineError, EngineInfo
from tilestream.resources import limit_opencv, resources
from tilestream.scheduling.engine_group import EngineGroup
from tilestream.scheduling.overload import Level
from tilestream.scheduling.scheduler import Limits, Scheduler
from tilestream.sessions.registry import SessionRegistry
from tilestream.sessions.session import CloseCause, Session
from tilestream.telemetry.logs import AUDIT, setup_logging
from tilestream.telemetry.metrics import Metrics
from tilestream.telemetry.tracing import FrameTracer, TracingError, make_tracer
from tilestream.temporary import NoTemporaryFolderError, ensure_temporary_folder
from tilestream.tls.files import CertificateError
from tilestream.tls.ports import Ports
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.v1 import segmentation_pb2_grpc

if TYPE_CHECKING:
    from tilestream.web.site import Site

log = logging.getLogger(__name__)
audit = logging.getLogger(AUDIT)

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SegmentationService"]
SERVICE = _DESCRIPTOR.full_name
_MEDIA_THREADS = 2  # unless settings name a number, or there are fewer cores
_MAX_PENDING_CALLS = 16_384
_HANDSHAKE_MS = 10_000  # until a connection has to have begun to speak
_POLL = 0.02  # seconds between looks at what is left while shutting down
_LAST_STEP = 0.2  # seconds for a step that runs when the grace period is over
_STOP_STARTED = 10.0  # seconds for engines to end where the server could not start
_LAST_ANSWERS = 1.0  # seconds for statuses that are on their way when the grace period is over


class StartError(Exception):
    """The server cannot start; the message says why."""


class Server:
    """A running server. All methods are called on its event loop.

    Each of ``make_engines`` is called in the thread of that engine.
    """

    def __init__(
        self, settings: Settings, *make_engines: Callable[[], Engine], clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.port = 0
        self._listener: Listener | None = None
        self._page: Site | None = None
        self.metrics = Metrics(self.clock.now)
        self.tracer: FrameTracer | None = None
        self.lifecycle = Lifecycle(self.clock)
        self.registry = SessionRegistry(
            settings.max_sessions,
            settings.retry_delay,
            self._on_close,
            clock=self.clock.now,
            overloaded=self._refuses_sessions,
            most=self._most_sessions,
        )
        self._router = OutcomeRouter(self.metrics)
        self.engine_died = asyncio.Event()
        self._event_loop = asyncio.get_running_loop()
        self._engines = EngineGroup(
            make_engines,
            lambda: Scheduler(_limits(settings)),
            self._router.on_step,
            self._on_engine_death,
            self.clock.now,
        )
        self.metrics.ask_loads(self._engines.loads)
        self._resources = resources()
        self._media_threads = settings.media_threads or min(_MEDIA_THREADS, self._resources.cores)
        limit_opencv(self._resources.cores)
        self._media = MediaThreads(self._media_threads)
        self._health = HealthServicer()
        self._services: Services | None = None
        self._grpc = grpc.aio.server(
            interceptors=[
                MetricsInterceptor(_DESCRIPTOR, self.metrics.calls),
                ErrorInterceptor(),
                AdmissionInterceptor(SERVICE, self._ready_services),
            ],
            options=_channel_options(settings),
        )

    async def start(self) -> None:
        """Load the models and listen. Raises :class:`StartError`, and leaves nothing behind then."""
        try:
            await self._start()
        except StartError:
            await asyncio.to_thread(self._engines.stop, _STOP_STARTED)
            self._media.close()
            self._leave_address()
            if self._page is not None:
                await self._page.stop()
            if self.tracer is not None:
                await asyncio.to_thread(self.tracer.close)
            raise

    async def _start(self) -> None:
        settings = self.settings
        try:  # before models are loaded: what is wrong with it is told at once
            self._ports = Ports(settings)
        except CertificateError as error:
            raise StartError(str(error)) from error
        if settings.trace_endpoint:
            try:
                self.tracer = make_tracer(settings.trace_endpoint)
            except TracingError as error:
                raise StartError(str(error)) from error
        try:
            authenticator = make_authenticator(settings, self.clock.now)
            admission = make_admission(settings, self.clock.now)
        except AccessFileError as error:
            raise StartError(str(error)) from error
        try:
            started = await asyncio.gather(*map(asyncio.wrap_future, self._engines.start()))
        except EngineError as error:
            raise StartError(str(error)) from error
        except Exception as error:
            log.exception("an engine failed while it was made")
            raise StartError("an engine failed while it was made; the lines above say how") from error
        engine = _together(started)
        self.metrics.server_started(__version__, engine.device, engine.precision, settings.max_sessions)
        services = self._services = Services(
            settings,
            engine,
            self._engines,
            self._router,
            self.registry,
            self._media,
            self.metrics,
            self.lifecycle,
            self.clock,
            authenticator,
            admission,
            tracer=self.tracer,
        )
        self._live_sessions = LiveSessions(services)
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(
            SegmentationServicer(services, self._live_sessions), self._grpc
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._grpc)
        self._listen()
        page = await self._serve_page(services) if settings.web_port else ""
        await self._grpc.start()
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._warn_of_strangers()
        log.info(
            "serving",
            extra={
                "address": self._listener.address if self._listener else "",
                "models": ",".join(model.name for model in engine.models),
                "gates": ",".join(model.gate for model in engine.models),
                "device": engine.device,
                "precision": engine.precision,
                "cores": self._resources.cores,
                "media_threads": self._media_threads,
                "version": __version__,
                "tls": self._ports.security,
                **({"page": page} if page else {}),
            },
        )
        if settings.port_file is not None:
            await asyncio.to_thread(_write_port_file, settings.port_file, self.port)

    def _listen(self) -> None:
        settings = self.settings
        try:
            self._listener = listen(
                partial(self._ports.add_grpc_port, self._grpc), settings.host, settings.port
            )
        except ListenError as error:
            raise StartError(str(error)) from error
        self.port = self._listener.port
        if settings.metrics_port:
            host = unbracketed(settings.metrics_host)
            try:
                self._metrics_server = self._ports.serve_metrics(self.metrics, host)
            except OSError as error:
                where = f"{bracketed(host)}:{settings.metrics_port}"
                raise StartError(f"cannot serve metrics on {where}: {error}") from error

    async def _serve_page(self, services: Services) -> str:
        """The address of the page."""
        from tilestream.web.site import Site  # it needs a library that others can do without

        self._page = Site(services, self._live_sessions)
        try:
            return await self._page.start(self._ports.web_context())
        except OSError as error:
            where = f"{bracketed(self.settings.web_host)}:{self.settings.web_port}"
            raise StartError(f"cannot serve the page on {where}: {error.strerror or error}") from error

    async def stop(self, grace: float | None = None) -> None:
        """Refuse new sessions, let live ones finish what was accepted within ``grace`` seconds, shut down."""
        grace = self.settings.grace_period if grace is None else grace
        log.info("draining", extra={"sessions": len(self.registry), "grace_seconds": grace})
        self.registry.draining = True
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.lifecycle.drain(grace)
        self._live_sessions.close_suspended()
        while len(self.registry) and self.lifecycle.remaining() > 0:
            await asyncio.sleep(_POLL)
        if len(self.registry):
            log.warning("grace period is over", extra={"sessions": len(self.registry)})
        self._leave_address()
        if self._page is not None:
            await self._page.stop()
        await self._grpc.stop(min(_LAST_ANSWERS, max(0.1, self.lifecycle.remaining())))
        await asyncio.to_thread(self._engines.stop, max(_LAST_STEP, self.lifecycle.remaining()))
        self._media.close()
        if self.settings.metrics_port:
            await asyncio.to_thread(self._metrics_server.shutdown)
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
        log.info("stopped")

    def _leave_address(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            self._health.set(name, status)

    def _ready_services(self) -> Services:
        if self._services is None:
            raise RuntimeError("a call came before the server was started")
        return self._services

    def _most_sessions(self, caller: Caller) -> int:
        return self._ready_services().admission.most_sessions(caller)

    def _warn_of_strangers(self) -> None:
        settings = self.settings
        addresses = [
            (settings.host, self.port),
            *([(settings.web_host, settings.web_port)] if self._page else []),
        ]
        for host, port in addresses:
            if settings.lets_strangers_in and not is_local(host):
                log.warning(
                    "whoever reaches this address is let in without credentials (allow_anonymous)",
                    extra={"address": f"{host}:{port}"},
                )

    def _refuses_sessions(self) -> bool:
        return self._engines.load().level >= Level.REFUSING

    def _on_engine_death(self) -> None:
        self._event_loop.call_soon_threadsafe(self.engine_died.set)

    def _on_close(self, session: Session, cause: CloseCause) -> None:
        stats = session.stats
        log.info("session closed", extra={"session": session.session_id, "cause": cause.value})
        audit.info(
            "session over",
            extra={
                "session": session.session_id,
                "cause": cause.value,
                "identity": session.caller.identity,
                "camera": session.options.camera_id,
                "peer": session.caller.connection,
                "seconds": round(self.clock.now() - session.opened, 3),
                **{f"frames_{status.value}": count for status, count in stats.answered.items()},
                "frames_received": stats.received,
                "bytes_received": stats.bytes_received,
                "bytes_sent": stats.bytes_sent,
            },
        )
        self.metrics.session_closed(cause.value)


def run_server(settings: Settings, *make_engines: Callable[[], Engine]) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit status. Without ``make_engines``: the settings'."""
    begin = partial(setup_logging, settings.log_format, settings.log_level, limit=settings.log_limit)
    begin()
    try:
        ensure_temporary_folder()
    except NoTemporaryFolderError as error:
        log.error("cannot start: %s", error)
        return 1
    return asyncio.run(_run(settings, make_engines or make_torch_engines(settings, begin)))


async def _run(settings: Settings, make_engines: Sequence[Callable[[], Engine]]) -> int:
    server = Server(settings, *make_engines)
    signals: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number.name)
    try:
        await server.start()
    except StartError as error:
        log.error("cannot start: %s", error)
        return 1
    first = asyncio.ensure_future(signals.get())
    died = asyncio.ensure_future(server.engine_died.wait())
    await asyncio.wait({first, died}, return_when=asyncio.FIRST_COMPLETED)
    died.cancel()
    if not first.done():
        first.cancel()
        log.error("stopping since the engine's thread died")
        await server.stop(0.0)
        return 1
    log.info("stopping on %s", first.result())
    stopping = asyncio.ensure_future(server.stop())
    again = asyncio.ensure_future(signals.get())
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not stopping.done():
        log.warning("second signal: not waiting any longer")
        return 1
    await stopping
    return 0


def make_torch_engines(settings: Settings, begin: Callable[[], None]) -> list[Callable[[], Engine]]:
    """What makes the engines that the settings ask for. ``begin``: called first in processes of their own."""
    options = EngineOptions(
        gate=settings.gate,
        fusion=settings.fusion,
        bin_size=settings.bin_size,
        store_bytes=settings.feature_memory,
        models=settings.models,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
    )
    preload([ENGINE_MODULE])
    count = count_engines(settings.engines, settings.device)
    if not count:
        return [partial(create_engine, options)]
    shares = [options.share(number, count) for number in range(count)]
    return [
        partial(
            ProcessEngine,
            EngineProcess(partial(create_engine, share), begin, settings.engine_timeout),
            standby=settings.engine_standby,
        )
        for share in shares
    ]


def _together(engines: Sequence[EngineInfo]) -> EngineInfo:
    """What several engines of the same models offer."""
    devices = ",".join(dict.fromkeys(engine.device for engine in engines))
    takes = tuple(codec for codec in Codec if all(codec in engine.takes for engine in engines))
    return EngineInfo(engines[0].models, devices, engines[0].precision, takes)


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.max_batch,
        settings.service_level,
        settings.min_block_budget,
        settings.max_step_seconds or None,
    )


def _channel_options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # bounded by the size of masks
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent half of the clients
        # Above this, calls that nobody has looked at yet are cancelled without a reason.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_PENDING_CALLS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", 20_000),  # finds cameras that vanished
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # clients may look for us as often
    ]


def _write_port_file(path: Path, port: int) -> None:
    """In one step, so that a reader never sees half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(f"{port}\n")
    part.replace(path)
