"""What every call passes before its handler: who calls, whether that may be, how long it may be silent.

All handlers become ones of streams here, so that a call is refused before its request, which may be large, is
read, and ends if it sends none. Limits are per service: streams of ours count as such; health checks are let
in always, need no identity and wait for nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health

from tilestream.access.caller import Caller
from tilestream.access.refusals import NotAllowed, NotAuthenticated, TooManyCalls, TooManyStreams
from tilestream.api import errors
from tilestream.api.callers import identify, set_current_caller, stranger
from tilestream.api.first_request import first_request
from tilestream.api.services import Services

MAX_OTHER_CALLS = 32
"""Of health checks, watches of the health and reflection: most of one connection that are open at a time."""

Behaviour = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class AdmissionInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Goes behind those that count calls and map errors. ``service``: full name of ours.

    ``services`` is asked for at every call: there are none before the models are loaded.
    """

    def __init__(self, service: str, services: Callable[[], Services]) -> None:
        self._prefix, self._services = f"/{service}/", services
        self._others: Counter[str] = Counter()  # open calls of other services, by connection

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler of a call."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return None
        if not method.startswith(self._prefix):
            behaviour = self._other(handler, needs_identity=not method.startswith(f"/{health.SERVICE_NAME}/"))
        elif handler.stream_stream is not None:
            behaviour = self._stream(handler.stream_stream)
        else:
            behaviour = self._unary(handler.unary_unary)
        return grpc.stream_stream_rpc_method_handler(
            behaviour, handler.request_deserializer, handler.response_serializer
        )

    def _stream(self, behaviour: Behaviour) -> Behaviour:
        async def admitted(requests: Any, context: grpc.aio.ServicerContext) -> None:
            with self._counted():
                caller = self._identify(context)
                with self._services().admission.stream(caller):
                    await behaviour(requests, context)

        return admitted

    def _unary(self, behaviour: Behaviour) -> Behaviour:
        async def admitted(_: Any, context: grpc.aio.ServicerContext) -> None:
            with self._counted():
                caller = self._identify(context)
                self._services().admission.take_call(caller)
                await self._answer(behaviour, context, caller, crowds=True)

        return admitted

    def _other(self, handler: grpc.RpcMethodHandler, needs_identity: bool) -> Behaviour:
        async def admitted(requests: Any, context: grpc.aio.ServicerContext) -> None:
            with self._counted():
                caller = self._identify(context) if needs_identity else stranger(context)
                with self._held(caller):
                    if handler.stream_stream is not None:
                        async for response in handler.stream_stream(requests, context):
                            await context.write(response)
                    else:
                        await self._answer(
                            handler.unary_unary or handler.unary_stream, context, caller, crowds=False
                        )

        return admitted

    async def _answer(
        self, behaviour: Behaviour, context: grpc.aio.ServicerContext, caller: Caller, *, crowds: bool
    ) -> None:
        """Read the one request of a call and hand it to its handler."""
        request = await first_request(context, self._services(), caller, crowds=crowds)
        if request is grpc.aio.EOF:
            raise errors.invalid_argument("request", "missing", "one request")
        response = await behaviour(request, context)
        if response is not None:
            await context.write(response)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count calls that are refused before they could ask for anything."""
        try:
            yield
        except NotAuthenticated:
            self._services().metrics.call_refused("unauthenticated")
            raise
        except NotAllowed:
            self._services().metrics.call_refused("not_allowed")
            raise
        except (TooManyStreams, TooManyCalls) as refusal:
            self._services().metrics.call_refused(refusal.reason)
            raise

    def _identify(self, context: grpc.aio.ServicerContext) -> Caller:
        caller = identify(context, self._services().authenticator)
        set_current_caller(caller)
        return caller

    @contextlib.contextmanager
    def _held(self, caller: Caller) -> Iterator[None]:
        connection = caller.connection
        if self._others[connection] >= MAX_OTHER_CALLS:
            message = f"{MAX_OTHER_CALLS} such calls of this connection are open: as many as there may be"
            raise TooManyStreams(message, self._services().settings.retry_delay)
        self._others[connection] += 1
        try:
            yield
        finally:
            self._others[connection] -= 1
            if not self._others[connection]:
                del self._others[connection]
