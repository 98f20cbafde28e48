"""The first request of a call: waited for some seconds, while there is room for calls that wait."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import grpc

from tilestream.access.caller import Caller
from tilestream.access.refusals import TooManyStreams
from tilestream.api import errors
from tilestream.api.services import Services
from tilestream.sessions.registry import ServerDraining


async def first_request(
    context: grpc.aio.ServicerContext,
    services: Services,
    caller: Caller,
    *,
    for_work: bool = False,
    crowds: bool = True,
) -> Any:
    """The request, or ``grpc.aio.EOF``. ``for_work``: the call is for what a draining server does not do.
    ``crowds``: it counts among those that have sent none yet; health checks do not.

    Raises DEADLINE_EXCEEDED after ``config_timeout`` seconds, TooManyStreams where others needed the place,
    ServerDraining, and what reading raises.
    """
    settings, clock = services.settings, services.clock
    timeout = min(settings.config_timeout, settings.idle_timeout or math.inf)
    crowded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_way() -> None:
        if not crowded.done():
            crowded.set_result(None)

    lobby = services.admission.lobby.wait(caller.connection, give_way) if crowds else contextlib.nullcontext()
    with lobby:
        wanted = asyncio.ensure_future(context.read())
        draining = asyncio.ensure_future(services.lifecycle.draining.wait())
        reasons = {wanted, crowded, *([draining] if for_work else [])}
        try:
            with contextlib.suppress(TimeoutError):
                async with clock.timeout_at(clock.now() + timeout):
                    await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            if crowded.done():
                message = "too many calls wait to send their first request, and this one has waited longest"
                raise TooManyStreams(message, settings.retry_delay)
            if for_work and draining.done():
                raise ServerDraining("the server is shutting down", settings.retry_delay)
            raise errors.deadline_exceeded(f"no request within {timeout:g} s")
        finally:
            for waiting in (wanted, draining, crowded):
                waiting.cancel()
