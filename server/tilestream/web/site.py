"""The page's server: files for the browser, and what they ask for on ``/api/``."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import MultipartWriter, web

from tilestream.api.errors import invalid_argument
from tilestream.api.live_sessions import LiveSession, LiveSessions
from tilestream.api.media_threads import Job
from tilestream.api.services import Services
from tilestream.listening import bracketed, unbracketed
from tilestream.sessions.session import SessionState
from tilestream.web.connections import Connections
from tilestream.web.guards import API, CALLER, Guards, add_headers, not_found, told
from tilestream.web.pictures import Drawn, draw
from tilestream.web.told import live_facts, server_facts
from tilestream.web.viewers import Viewers
from tilestream.web.watch import FASTEST, CameraWatch, Snapshot

# aiohttp writes stack traces of requests that it cannot read: the peer's affair. What goes wrong
# in answers is logged where it becomes one.
_peers = logging.getLogger(f"{__name__}.peers")
_peers.setLevel(logging.CRITICAL)

LIVE_INTERVAL = 1.0  # seconds between two looks of a viewer at the sessions
PICTURE_WAIT = 10.0  # seconds that a request waits for a picture; then the page asks again
SEND_SECONDS = 20.0  # that a browser may take to read an answer
_PER_VIEWER = 6  # connections that browsers open to a server
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_KEY = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-")
_MEDIA_OWNER = "page"  # its turn among those of the cameras in the media threads
_HANDSHAKE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page."""

    body: bytes
    kind: str
    tag: str


class Site:
    """Serves the page. All methods run on the event loop."""

    def __init__(self, services: Services, sessions: LiveSessions) -> None:
        self._services, self._sessions = services, sessions
        settings = services.settings
        self._viewers = Viewers(settings.web_viewers, services.clock, settings.retry_delay)
        self._watches: dict[str, CameraWatch] = {}
        self._drawn: dict[str, tuple[Snapshot, asyncio.Future[Drawn]]] = {}  # the latest, by session
        self._files = _load_files()
        self._server: asyncio.Server | None = None
        guards = Guards(services, lambda: self._connections)
        app = web.Application(middlewares=[guards.__call__])
        app.on_response_prepare.append(add_headers)
        app.router.add_get(f"{API}server", self._on_server)
        app.router.add_get(f"{API}sessions", self._on_sessions)
        app.router.add_get(f"{API}sessions/{{session}}/picture", self._on_picture)
        app.router.add_get("/{name:.*}", self._on_file)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_peers,
            handler_cancellation=True,  # who leaves does not wait on
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        self._connections: Connections

    async def start(self, context: ssl.SSLContext | None) -> str:
        """Listen; the page's address. ``context``: of TLS; None: plain text. Raises OSError."""
        settings = self._services.settings
        host = unbracketed(settings.web_host)
        await self._runner.setup()
        make = self._runner.server
        assert make is not None
        most = _PER_VIEWER * settings.web_viewers
        self._connections = Connections(make, most, self._services.clock)
        self._server = await asyncio.get_running_loop().create_server(
            self._connections.protocol,
            host,
            settings.web_port,
            ssl=context,
            ssl_handshake_timeout=None if context is None else _HANDSHAKE_SECONDS,
        )
        return f"{'http' if context is None else 'https'}://{bracketed(host)}:{settings.web_port}/"

    async def stop(self) -> None:
        """Close all connections. Idempotent."""
        if self._server is not None:
            self._server.close()
        for watch in list(self._watches.values()):
            watch.end()
        await self._runner.cleanup()

    async def _on_file(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.match_info["name"] or "index.html")
        if file is None:
            not_found("no such page")
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if file.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, content_type=file.kind, charset="utf-8", headers=headers)

    async def _on_server(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(server_facts(self._services, request[CALLER]))

    async def _on_sessions(self, request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        async with self._viewers.turn(caller.identity, _key(request), "sessions", LIVE_INTERVAL):
            return web.json_response(await live_facts(self._services, caller))

    async def _on_picture(self, request: web.Request) -> web.StreamResponse:
        """The camera's next picture after frame ``after``, as parts of a form: about, frame, labels."""
        caller = request[CALLER]
        if not self._services.settings.web_frames:
            return told(403, "this server shows no pictures of cameras: it was started without --web-frames")
        after = _number(request, "after")
        async with self._viewers.turn(caller.identity, _key(request), "picture", FASTEST):
            watch = self._watch(self._visible(request))
            with watch.look(bins=request.query.get("bins") == "1"):
                snapshot = await self._next(watch, after)
            if snapshot is None:
                return web.Response(status=204)
            drawn = await self._draw(request.match_info["session"], snapshot, watch)
            return await self._send(request, drawn, self._services.clock.now() - snapshot.at)

    async def _next(self, watch: CameraWatch, after: int) -> Snapshot | None:
        """A picture after that frame; None: there is none yet."""
        clock = self._services.clock
        try:
            async with clock.timeout_at(clock.now() + PICTURE_WAIT):
                snapshot = await watch.newer(after)
        except TimeoutError:
            return None
        return snapshot or not_found("the session is over")

    def _visible(self, request: web.Request) -> LiveSession:
        name = request.match_info["session"]
        live = self._sessions.find(name)
        visible = self._services.visible_sessions(request[CALLER])
        if live is None or live.session not in visible or live.session.state is SessionState.OPENING:
            not_found("there is no such session, or it is over")
        return live

    def _watch(self, live: LiveSession) -> CameraWatch:
        name = live.session.session_id
        watch = self._watches.get(name)
        if watch is None:
            watch = CameraWatch(live, self._services.clock, lambda: self._forget(name))
            self._watches[name] = watch
        return watch

    def _forget(self, session_id: str) -> None:
        self._watches.pop(session_id, None)
        self._drawn.pop(session_id, None)

    async def _draw(self, session_id: str, snapshot: Snapshot, watch: CameraWatch) -> Drawn:
        """Once for all who look."""
        known = self._drawn.get(session_id)
        if known is None or known[0] is not snapshot:
            made: asyncio.Future[Drawn] = asyncio.get_running_loop().create_future()
            known = self._drawn[session_id] = snapshot, made

            def done(job: Job[Drawn]) -> None:
                if job.result is not None:
                    watch.took(job.result.seconds)
                    made.set_result(job.result)
                elif job.error is not None:
                    made.set_exception(job.error)
                else:
                    made.cancel()

            self._services.media.submit(lambda: draw(snapshot), done, _MEDIA_OWNER)
        return await asyncio.shield(known[1])

    async def _send(self, request: web.Request, drawn: Drawn, age: float) -> web.StreamResponse:
        with MultipartWriter("form-data") as form:
            _append(form, "about", "application/json", json.dumps({**drawn.about, "age": age}).encode())
            _append(form, "frame", "image/jpeg", drawn.frame)
            _append(form, "labels", "image/png", drawn.labels)
        response, clock = web.Response(body=form), self._services.clock
        try:
            async with clock.timeout_at(clock.now() + SEND_SECONDS):
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        return response


def _append(form: MultipartWriter, name: str, kind: str, body: bytes) -> None:
    part = form.append(body, {"Content-Type": kind})
    part.set_content_disposition("form-data", name=name, filename=name)


def _key(request: web.Request) -> str:
    """By which a viewer calls itself."""
    key = request.query.get("viewer", "")
    if not 8 <= len(key) <= 64 or not set(key) <= _KEY:
        raise invalid_argument(
            "viewer", repr(key[:80]), "8 to 64 of a-z 0-9 -, another one for every open page"
        )
    return key


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "-1")
    if text != "-1" and (not text.isdecimal() or len(text) > 20):
        raise invalid_argument(name, repr(text[:80]), "a frame_id, or -1")
    return int(text)


def _load_files() -> dict[str, _File]:
    """All files of the page, by name: few and small, and no other can be had."""
    found = {}
    for entry in files("tilestream.web").joinpath("static").iterdir():
        kind = _TYPES.get(entry.name[entry.name.rfind(".") :])
        if kind is not None:
            body = entry.read_bytes()
            found[entry.name] = _File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return found
