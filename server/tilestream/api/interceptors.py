"""What surrounds every call: exceptions become statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from tilestream.api.errors import to_api_error, to_status


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Ends calls whose handler raised with the status that :mod:`tilestream.api.errors` gives.

    Goes before the one that lets calls in, which makes a stream of every call: reading a request that cannot
    be parsed raises, too, and gRPC itself would send that exception's text.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        return handler and handler._replace(stream_stream=_guard(handler.stream_stream))


def _guard(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def guarded(requests: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await behaviour(requests, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            return await _abort(context, error)

    return guarded


async def _abort(context: grpc.aio.ServicerContext, error: Exception) -> NoReturn:
    status = to_status(to_api_error(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort() raises")
