"""What every request passes: which name the browser called, who calls, how often, and how errors are told."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import urlsplit

import grpc
from aiohttp import web

from tilestream.access.caller import Caller
from tilestream.access.refusals import NotAllowed, NotAuthenticated, TooManyCalls
from tilestream.api.errors import ApiError, to_api_error
from tilestream.api.services import Services
from tilestream.tls.subjects import subject_of
from tilestream.web.connections import Connections

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CALLER = web.RequestKey("caller", Caller)
API = "/api/"  # under it all is of somebody's cameras; the rest are files that anybody may have

HEADERS = {
    # Nothing but the page's own files, no frame around it, no string that becomes markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "tilestream",
}

_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_RETRIES = (429, 503)


class Guards:
    """The middleware of the page."""

    def __init__(self, services: Services, connections: Callable[[], Connections]) -> None:
        self._services, self._connections = services, connections
        settings = services.settings
        self._names = {"localhost", settings.web_host.lower(), *(name.lower() for name in settings.web_names)}
        # Where nothing else keeps strangers out, a site of the attacker's could have its name lead here.
        self._checks_names = settings.lets_strangers_in and settings.tls_certificate is None

    @web.middleware
    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request through, or say why not."""
        self._connections().asks(request.transport)
        try:
            return await self._answer(request, handler)
        finally:
            self._connections().answered(request.transport)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_name(request)
            if request.path.startswith(API):
                request[CALLER] = self._admit(request)
            return await handler(request)
        except web.HTTPException as refusal:  # of the router: no such address, another method
            return told(refusal.status, refusal.reason, dict(refusal.headers.items()))
        except Exception as error:
            return _refused(to_api_error(error), self._services.settings.retry_delay)

    def _check_name(self, request: web.Request) -> None:
        if not self._checks_names:
            return
        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
        if name in self._names:
            return
        try:
            ip_address(name)
        except ValueError:
            message = (
                f"the page is not known by the name {name[:80]!r}: call it by its address, or set web_names"
            )
            raise NotAllowed(message) from None

    def _admit(self, request: web.Request) -> Caller:
        services = self._services
        try:
            caller = _identify(request, services)
            services.admission.take_call(caller)
        except NotAuthenticated:
            services.metrics.call_refused("unauthenticated")
            raise
        except TooManyCalls as refusal:
            services.metrics.call_refused(refusal.reason)
            raise
        return caller


def _identify(request: web.Request, services: Services) -> Caller:
    """Who calls, by the same credentials as of gRPC. Raises NotAuthenticated."""
    shown = request.headers.getall("Authorization", [])
    name = services.authenticator.identify(shown, _certificate_subject(request))
    digest = b"" if name else hashlib.sha256("\0".join(shown).encode("utf-8", "surrogatepass")).digest()
    peer = request.get_extra_info("peername") or ("",)
    return Caller(name, "web:" + ":".join(map(str, peer[:2])), digest)


def _certificate_subject(request: web.Request) -> str | None:
    connection = request.get_extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject):
        return None
    certificate = connection.getpeercert(binary_form=True)
    return subject_of(certificate) if certificate else None


def not_found(message: str) -> NoReturn:
    """There is no such thing, or none that this caller may know of."""
    raise ApiError(grpc.StatusCode.NOT_FOUND, message)


def told(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error, for people."""
    more = {key: value for key, value in (headers or {}).items() if key in ("Allow", "Retry-After")}
    return web.json_response({"error": message}, status=status, headers=more)


def _refused(error: ApiError, retry_seconds: float) -> web.Response:
    status = _STATUSES.get(error.code, 500)
    headers = {"Retry-After": str(max(1, round(retry_seconds)))} if status in _RETRIES else {}
    response = told(status, error.message, headers)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="tilestream"'
    return response


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Of every answer. What is of somebody's cameras is kept nowhere."""
    response.headers.update(HEADERS)
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
