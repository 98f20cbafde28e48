"""Counts calls, their messages and how they end, with the names that gRPC servers commonly use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from tilestream.telemetry.calls import CallCounters, CallMetrics


class MetricsInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Goes before the one that maps errors, so that it sees the status, and before the one that makes a
    stream of every call. ``service``: ours.
    """

    def __init__(self, service: ServiceDescriptor, counters: CallCounters) -> None:
        self._service, self._counters = service.full_name, counters
        codes = [code.name for code in grpc.StatusCode]
        self._kinds = {
            method.name: "bidi_stream" if method.client_streaming else "unary" for method in service.methods
        }
        for name, kind in self._kinds.items():
            counters.expect(kind, self._service, name, codes)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.removeprefix("/").rpartition("/")
        if handler is None or service != self._service:
            return handler
        return handler._replace(stream_stream=self._counted(handler.stream_stream, method))

    def _counted(self, behaviour: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[..., Any]:
        async def counted(requests: Any, context: grpc.aio.ServicerContext) -> Any:
            call = self._counters.begun(self._kinds[method], self._service, method)
            return await _ended(behaviour(requests, _CountingContext(context, call)), context, call)

        return counted


async def _ended(work: Awaitable[Any], context: grpc.aio.ServicerContext, call: CallMetrics) -> Any:
    """Await a handler and count the status it ends with."""
    try:
        result = await work
    except grpc.aio.AbortError:
        call.handled(_code_name(context.code()))
        raise
    except BaseException:  # only a cancelled call leaves its handler in another way
        call.handled("CANCELLED")
        raise
    call.handled(_code_name(context.code()))
    return result


def _code_name(code: Any) -> str:
    """The name of a status, such as OK; gRPC gives its enum, the enum's number, or nothing yet."""
    if isinstance(code, grpc.StatusCode):
        return str(code.name)
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "OK")


class _CountingContext:
    """A servicer's context that counts what is read and written."""

    def __init__(self, context: grpc.aio.ServicerContext, call: CallMetrics) -> None:
        self._context, self._call = context, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        request = await self._context.read()
        if request is not grpc.aio.EOF:
            self._call.received.inc()
        return request

    async def write(self, message: Any) -> None:
        await self._context.write(message)
        self._call.sent.inc()
