"""What a server tells about itself: data classes over the generated messages.

Times are seconds (points in time: since the Unix epoch), sizes (width, height) in pixels, shares 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tilestream_client.config import codec_from_proto, encoding_from_proto, policy_from_proto
from tilestream_client.v1 import segmentation_pb2 as pb

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class: its value in masks (0..255), its name and its colour (RGB, 0..255 each)."""

    value: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Model:
    """A model that the server has loaded; ``reference_miou`` is None where it is not known."""

    name: str
    description: str = ""
    classes: tuple[LabelClass, ...] = ()
    stride: int = 0
    parameters: int = 0
    reference_miou: float | None = None
    is_default: bool = False

    @cached_property
    def palette(self) -> UInt8Array:
        """uint8 [256, 3] RGB: the colour of every label value, black where the model has no class."""
        table = np.zeros((256, 3), np.uint8)
        for item in self.classes:
            table[item.value] = item.color
        table.setflags(write=False)
        return table

    @classmethod
    def from_proto(cls, message: pb.Model) -> Model:
        """From the generated message."""
        return cls(
            name=message.name,
            description=message.description,
            classes=tuple(LabelClass(c.value & 255, c.name, _rgb(c.color)) for c in message.classes),
            stride=message.stride,
            parameters=message.parameters,
            reference_miou=message.reference_miou or None,
            is_default=message.is_default,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that hold for a session. Durations are seconds; 0 = never (see the proto)."""

    max_frame_bytes: int
    max_frame_pixels: int
    max_frame_side: int
    max_compute_pixels: int
    max_message_bytes: int
    max_frames_in_flight: int
    heartbeat_interval: float
    idle_timeout: float
    max_session_age: float
    resume_ttl: float
    max_delay: float

    @classmethod
    def from_proto(cls, message: pb.SessionLimits) -> Limits:
        """From the generated message."""
        return cls(
            max_frame_bytes=message.max_frame_bytes,
            max_frame_pixels=message.max_frame_pixels,
            max_frame_side=message.max_frame_side,
            max_compute_pixels=message.max_compute_pixels,
            max_message_bytes=message.max_message_bytes,
            max_frames_in_flight=message.max_frames_in_flight,
            heartbeat_interval=message.heartbeat_interval_ms / 1e3,
            idle_timeout=message.idle_timeout_ms / 1e3,
            max_session_age=message.max_session_age_ms / 1e3,
            resume_ttl=message.resume_ttl_ms / 1e3,
            max_delay=message.max_delay_ms / 1e3,
        )


@dataclass(frozen=True, slots=True)
class Session:
    """An open session, as the server confirmed it.

    resume_token: secret to go on with this session after a lost stream; not shown in repr.
    config: the config in force, with the server's defaults filled in.
    """

    session_id: str
    model: Model
    limits: Limits
    config: pb.SessionConfig = field(repr=False)
    resume_token: bytes = field(repr=False)
    resumed: bool = False
    last_frame_id: int | None = None

    @classmethod
    def from_proto(cls, message: pb.SessionStarted) -> Session:
        """From the generated message."""
        return cls(
            session_id=message.session_id,
            model=Model.from_proto(message.model),
            limits=Limits.from_proto(message.limits),
            config=message.config,
            resume_token=message.resume_token,
            resumed=message.resumed,
            last_frame_id=message.last_frame_id if message.HasField("last_frame_id") else None,
        )


@dataclass(frozen=True, slots=True)
class Draining:
    """The server's notice that it ends this stream in ``grace`` seconds; come again after ``retry_after``."""

    reason: str
    grace: float
    retry_after: float

    @classmethod
    def from_proto(cls, message: pb.DrainingNotice) -> Draining:
        """From the generated message."""
        reason = enum_name(pb.DrainReason, message.reason, "DRAIN_REASON_")
        return cls(reason, message.grace_ms / 1e3, message.retry_delay_ms / 1e3)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server is and what it offers.

    start_time: when it was ready; time: when it answered. Both are by its own clock; 0 = it did not say.
    """

    version: str
    device: str
    precision: str
    start_time: float
    draining: bool
    sessions: int
    max_sessions: int
    default_model: str
    limits: Limits
    mask_encodings: tuple[str, ...]
    queue_policies: tuple[str, ...]
    time: float = 0.0
    frame_codecs: tuple[str, ...] = ("jpeg",)

    @property
    def uptime(self) -> float | None:
        """Seconds since it was ready; None where it did not say."""
        return _age(self.start_time, self.time)

    @classmethod
    def from_proto(cls, message: pb.GetServerInfoResponse) -> ServerInfo:
        """From the generated message."""
        return cls(
            version=message.version,
            device=message.device,
            precision=message.precision,
            start_time=message.start_time_us / 1e6,
            draining=message.draining,
            sessions=message.sessions,
            max_sessions=message.max_sessions,
            default_model=message.default_model,
            limits=Limits.from_proto(message.limits),
            mask_encodings=tuple(encoding_from_proto(value) for value in message.mask_encodings),
            queue_policies=tuple(policy_from_proto(value) for value in message.queue_policies),
            time=message.time_us / 1e6,
            frame_codecs=tuple(codec_from_proto(value) for value in message.frame_codecs) or ("jpeg",),
        )


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A live session and how it is doing. Rates and latencies are over the last seconds.

    Latencies are the server's, in seconds; 0 = no frame yet. ``agreement`` is None where it is not known.
    start_time and age (seconds) are by the server's clock; age is None where it did not tell the time.
    """

    session_id: str
    camera_id: str
    model: str
    state: str
    start_time: float
    frame_size: tuple[int, int] | None
    fps: float
    latency_p50: float
    latency_p99: float
    block_drop_rate: float
    block_budget: float
    agreement: float | None
    frames_received: int
    frames_ok: int
    frames_dropped: int
    frames_invalid: int
    queue_policy: str
    weight: float
    age: float | None = None

    @classmethod
    def from_proto(cls, message: pb.Session, time: float = 0.0) -> SessionInfo:
        """From the generated message. ``time``: by the server's clock when it answered, 0 = not known."""
        size = message.frame_size
        return cls(
            session_id=message.session_id,
            camera_id=message.camera_id,
            model=message.model,
            state=enum_name(pb.SessionState, message.state, "SESSION_STATE_"),
            start_time=message.start_time_us / 1e6,
            frame_size=(size.width, size.height) if message.HasField("frame_size") else None,
            fps=message.fps,
            latency_p50=message.latency_p50_us / 1e6,
            latency_p99=message.latency_p99_us / 1e6,
            block_drop_rate=message.block_drop_rate,
            block_budget=message.block_budget,
            agreement=message.agreement if message.HasField("agreement") else None,
            frames_received=message.frames_received,
            frames_ok=message.frames_ok,
            frames_dropped=message.frames_dropped,
            frames_invalid=message.frames_invalid,
            queue_policy=policy_from_proto(message.queue_policy),
            weight=message.weight,
            age=_age(message.start_time_us / 1e6, time),
        )


def enum_name(kind: object, value: int, prefix: str) -> str:
    """``value`` of a generated enum as a lower-case word; its number where this release does not know it."""
    try:
        name: str = kind.Name(value)  # type: ignore[attr-defined]
    except ValueError:
        return str(value)
    return name.removeprefix(prefix).lower()


def _age(start: float, now: float) -> float | None:
    return max(0.0, now - start) if start and now else None


def _rgb(color: int) -> tuple[int, int, int]:
    return (color >> 16) & 255, (color >> 8) & 255, color & 255
