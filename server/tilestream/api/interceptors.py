"""What surrounds every call of our service: exceptions become statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from tilestream.api.errors import to_api_error, to_status


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Ends calls whose handler raised with the status that :mod:`tilestream.api.errors` gives.

    Requests that cannot be parsed are treated alike: gRPC itself would send the exception's text.
    ``service``: full name of the service it is for.
    """

    def __init__(self, service: str) -> None:
        self._prefix = f"/{service}/"

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self._prefix):
            return handler
        if handler.unary_unary is not None:
            return handler._replace(
                unary_unary=_guard(handler.unary_unary),
                request_deserializer=_keep_error(handler.request_deserializer),
            )
        return handler._replace(stream_stream=_guard(handler.stream_stream))


def _guard(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            if isinstance(request, DecodeError):
                raise request
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            return await _abort(context, error)

    return guarded


async def _abort(context: grpc.aio.ServicerContext, error: Exception) -> NoReturn:
    status = to_status(to_api_error(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort() raises")


def _keep_error(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def safe(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return error

    return safe
