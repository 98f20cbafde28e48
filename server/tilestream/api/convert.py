"""From the server's plain messages to those of the API. Enums correspond by the names of their members."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any, TypeVar

from tilestream.api.outputs import event_fields, fill_in_wishes, result_fields
from tilestream.config import Settings
from tilestream.media.masks import MaskFormat
from tilestream.messages import (
    STAGES,
    BinAccount,
    Codec,
    DropReason,
    EngineInfo,
    FrameStats,
    InvalidReason,
    ModelInfo,
)
from tilestream.sessions.frames import Answer, EncodedPlane, Status, Ticket
from tilestream.sessions.inbox import QueuePolicy
from tilestream.sessions.session import Session, SessionOptions, SessionState
from tilestream.v1 import segmentation_pb2 as pb

E = TypeVar("E", bound=Enum)


def _by_name(wire: Any, ours: type[E], prefix: str) -> dict[Any, E]:
    return {wire.Value(f"{prefix}_{member.name}"): member for member in ours}


MASK_FORMATS = _by_name(pb.MaskEncoding, MaskFormat, "MASK_ENCODING")
FRAME_CODECS = _by_name(pb.FrameCodec, Codec, "FRAME_CODEC")
QUEUE_POLICIES = _by_name(pb.QueuePolicy, QueuePolicy, "QUEUE_POLICY")
_STATUSES = {ours: wire for wire, ours in _by_name(pb.FrameStatus, Status, "FRAME_STATUS").items()}
_DROPS = {ours: wire for wire, ours in _by_name(pb.DropReason, DropReason, "DROP_REASON").items()}
_INVALIDS = {ours: wire for wire, ours in _by_name(pb.InvalidReason, InvalidReason, "INVALID_REASON").items()}
_US = {name: f"{name}_us" for name in ("queue", *STAGES, "encode")}
_ENCODINGS = {ours: wire for wire, ours in MASK_FORMATS.items()}
_CODECS = {ours: wire for wire, ours in FRAME_CODECS.items()}
_POLICIES = {ours: wire for wire, ours in QUEUE_POLICIES.items()}
_STATES = {
    SessionState.ACTIVE: pb.SESSION_STATE_ACTIVE,
    SessionState.DRAINING: pb.SESSION_STATE_DRAINING,
    SessionState.SUSPENDED: pb.SESSION_STATE_SUSPENDED,
}  # the others are never listed


def now_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def result_response(ticket: Ticket, answer: Answer, total_seconds: float) -> pb.StreamSegmentResponse:
    """The answer to a frame, ``total_seconds`` after it arrived.

    Made of dictionaries at once: protobuf copies a message into another by writing and parsing it.
    """
    result: dict[str, Any] = {
        "frame_id": ticket.frame_id,
        "capture_time_us": ticket.capture_time_us,
        "status": _STATUSES[answer.status],
        "times": _times(ticket, total_seconds),
    }
    if answer.failure is not None:
        result["detail"], reason = answer.failure.detail, answer.failure.reason
        if isinstance(reason, DropReason):
            result["drop_reason"] = _DROPS[reason]
        else:
            result["invalid_reason"] = _INVALIDS[reason]
    if answer.mask is not None:
        result["mask"] = _plane(answer.mask)
    if answer.confidence is not None:
        result["confidence"] = _plane(answer.confidence)
    if answer.stats is not None:
        result["reuse"] = _reuse(answer.stats)
    if answer.bins is not None:
        result["bins"] = _bins(answer.bins)
    if answer.findings is not None:
        result |= result_fields(answer.findings)
    if ticket.events:
        result["events"] = event_fields(ticket.events)
    return pb.StreamSegmentResponse(result=result)  # type: ignore[arg-type]


def _plane(plane: EncodedPlane) -> dict[str, Any]:
    return {
        "width": plane.width,
        "height": plane.height,
        "encoding": _ENCODINGS[plane.form],
        "data": plane.data,
    }


def _reuse(stats: FrameStats) -> dict[str, Any]:
    return {
        "key_frame": stats.whole,
        "units_computed": stats.units_computed,
        "units_dropped": stats.units_total - stats.units_computed,
        "mean_distortion": stats.mean_distortion,
        "block_budget": stats.budget,
        "macs": stats.macs,
        "agreement": stats.agreement,
        "bins_refreshed": stats.bins_refreshed,
        "refresh_changed": stats.refresh_changed,
        "frames_since_source": stats.since_source,
        "frames_until_source": stats.until_source,
        "future_share": stats.future_share,
    }


def _bins(bins: BinAccount) -> dict[str, Any]:
    rows, columns = bins.units_computed.shape
    return {
        "bin_size": bins.bin_size,
        "columns": columns,
        "rows": rows,
        "units_computed": bins.units_computed.ravel().tolist(),
        "distortion": bins.distortion.ravel().tolist(),
        "age": bins.age.ravel().tolist(),
        "width": bins.width,
        "height": bins.height,
        "units_per_bin": bins.units_per_bin,
    }


def _times(ticket: Ticket, total: float) -> dict[str, int]:
    times = {_US[name]: _us(seconds) for name, seconds in stage_seconds(ticket, total).items()}
    times["total_us"], times["engine_us"] = _us(total), _us(ticket.engine_seconds)
    return times


def stage_seconds(ticket: Ticket, total: float) -> dict[str, float]:
    """Seconds per stage; the engine's are the frame's share of its step, as far as it tells them apart."""
    active = ticket.decode_seconds + ticket.engine_seconds + ticket.encode_seconds
    stages = {name: ticket.stage_seconds[name] for name in STAGES if name in ticket.stage_seconds}
    stages["decode"] = ticket.decode_seconds + stages.get("decode", 0.0)  # by whoever did it
    return {"queue": max(0.0, total - active), **stages, "encode": ticket.encode_seconds}


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def model_message(model: ModelInfo, is_default: bool) -> pb.Model:
    """A model with its classes."""
    classes = [
        pb.LabelClass(value=value, name=name, color=(red << 16) | (green << 8) | blue)
        for value, (name, (red, green, blue)) in enumerate(zip(model.classes, model.palette, strict=True))
    ]
    served = f"gate {model.gate}" if model.gate else ""
    return pb.Model(
        name=model.name,
        description=", ".join(part for part in (model.description, served) if part),
        classes=classes,
        stride=model.stride,
        parameters=model.parameters,
        reference_miou=model.reference_miou or 0.0,
        is_default=is_default,
    )


def limits_message(settings: Settings, engine: EngineInfo) -> pb.SessionLimits:
    """The limits that hold for every session."""
    looks_ahead = any(model.looks_ahead for model in engine.models)
    return pb.SessionLimits(
        max_frame_bytes=settings.max_frame_bytes,
        max_frame_pixels=settings.max_frame_pixels,
        max_frame_side=settings.max_frame_side,
        max_compute_pixels=settings.max_compute_pixels,
        max_message_bytes=settings.max_message_bytes,
        max_frames_in_flight=settings.max_frames_in_flight,
        heartbeat_interval_ms=_ms(settings.heartbeat_interval),
        idle_timeout_ms=_ms(settings.idle_timeout),
        max_session_age_ms=_ms(settings.max_session_age),
        resume_ttl_ms=_ms(settings.resume_ttl),
        max_frames_per_second=settings.max_frames_per_second,
        max_delay_ms=_ms(settings.max_delay) if looks_ahead else 0,
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def config_message(options: SessionOptions) -> pb.SessionConfig:
    """The config in force, with every default filled in."""
    config = pb.SessionConfig(
        camera_id=options.camera_id,
        model=options.model.name,
        mask_encoding=_ENCODINGS[options.mask_format],
        frame_codec=_CODECS[options.codec],
        queue_policy=_POLICIES[options.queue_policy],
        frames_in_flight=options.frames_in_flight,
        block_budget=options.block_budget or 0.0,
        weight=options.weight,
        include_bins=options.include_bins,
        include_confidence=options.include_confidence,
        max_delay_ms=_ms(options.max_delay),
        rotation=options.rotation,
    )
    for field, size in (
        (config.output_size, options.output_size),
        (config.compute_size, options.compute_size),
    ):
        if size is not None:
            field.width, field.height = size
    fill_in_wishes(config, options.wishes)
    return config


def session_message(session: Session, now: float) -> pb.Session:
    """A live session for the list; ``now``: monotonic seconds."""
    stats, rates = session.stats, session.stats.rates(now)
    message = pb.Session(
        session_id=session.session_id,
        camera_id=session.options.camera_id,
        model=session.options.model.name,
        state=_STATES[session.state],
        start_time_us=now_us() - _us(now - session.opened),
        fps=rates.fps,
        latency_p50_us=_us(rates.latency_p50),
        latency_p99_us=_us(rates.latency_p99),
        block_drop_rate=rates.block_drop_rate,
        block_budget=stats.block_budget,
        agreement=rates.agreement,
        frames_received=stats.received,
        frames_ok=stats.answered[Status.OK],
        frames_dropped=stats.answered[Status.DROPPED],
        frames_invalid=stats.answered[Status.INVALID],
        queue_policy=_POLICIES[session.options.queue_policy],
        weight=session.options.weight,
        identity=session.caller.identity,
        max_delay_ms=_ms(session.options.max_delay),
    )
    if stats.frame_size is not None:
        message.frame_size.width, message.frame_size.height = stats.frame_size
    return message
