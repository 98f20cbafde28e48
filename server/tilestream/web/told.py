"""What the page is told of the server, its models and the live sessions, as plain data for JSON."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tilestream import __version__
from tilestream.access.caller import Caller
from tilestream.access.refusals import NotAllowed
from tilestream.api.convert import session_message
from tilestream.api.services import Services
from tilestream.messages import ModelInfo
from tilestream.session_rows import session_row
from tilestream.sessions.session import Session, SessionState
from tilestream.v1 import segmentation_pb2 as pb

_AT_ONCE = 20  # sessions that are told of until others get their turn on the event loop


def server_facts(services: Services, caller: Caller) -> dict[str, Any]:
    """What does not change while the server runs, as far as this caller is concerned."""
    engine, settings = services.engine, services.settings
    try:
        models = services.admission.models(caller, engine.models)
    except NotAllowed:
        models = ()
    return {
        "version": __version__,
        "device": engine.device,
        "precision": engine.precision,
        "max_sessions": settings.max_sessions,
        "shows_frames": settings.web_frames,
        "identity": caller.identity,
        "sees_everybody": services.admission.policy(caller).sees_everybody,
        "models": [_model(model, index == 0) for index, model in enumerate(models)],
    }


def _model(model: ModelInfo, is_default: bool) -> dict[str, Any]:
    classes = zip(model.classes, model.palette, strict=True)
    return {
        "name": model.name,
        "description": model.description,
        "gate": model.gate,
        "is_default": is_default,
        "parameters": model.parameters,
        "reference_miou": model.reference_miou,
        "classes": [{"name": name, "color": list(color)} for name, color in classes],
    }


async def live_facts(services: Services, caller: Caller) -> dict[str, Any]:
    """How the server is doing, and the sessions that ListSessions tells this caller of, oldest first."""
    rows = []
    for number, session in enumerate(services.visible_sessions(caller), 1):
        if session.state not in (SessionState.OPENING, SessionState.CLOSED):
            rows.append(_session(session, services.clock.now()))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return {
        "up_seconds": services.clock.now() - services.started,
        "draining": services.lifecycle.draining.is_set(),
        "load": [
            {"level": load.level.name.lower(), "scale": load.scale, "demand": load.demand, "wait": load.wait}
            for load in services.engines.loads()
        ],
        "sessions": rows,
    }


def _session(session: Session, now: float) -> dict[str, Any]:
    message = session_message(session, now)
    size = message.frame_size
    return session_row(message, round(time.time() * 1e6)) | {
        "identity": message.identity,
        "frame_size": [size.width, size.height] if message.HasField("frame_size") else None,
        "queue_policy": pb.QueuePolicy.Name(message.queue_policy).removeprefix("QUEUE_POLICY_").lower(),
        "weight": message.weight,
        "frames_received": message.frames_received,
    }
