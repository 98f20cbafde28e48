"""Check a session's config and fill in its defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilestream.access.refusals import NotAllowed
from tilestream.api.convert import FRAME_CODECS, MASK_FORMATS, QUEUE_POLICIES
from tilestream.api.errors import invalid_argument
from tilestream.api.outputs import read_wishes
from tilestream.config import Settings
from tilestream.media.rotation import ROTATIONS
from tilestream.media.video.decoder import VIDEO_CODECS, video_is_offered
from tilestream.messages import MOST_HELD, Codec, ModelInfo
from tilestream.sessions.inbox import effective_limit
from tilestream.sessions.session import SessionOptions
from tilestream.v1 import segmentation_pb2 as pb

DEFAULT_FRAMES_IN_FLIGHT = 2
MAX_CAMERA_ID = 128  # characters
WEIGHTS = (0.01, 100.0)
_USUAL_RATE = 30.0  # frames per second


def offered_codecs(settings: Settings) -> dict[pb.FrameCodec, Codec]:
    """Codecs that this server decodes."""
    video = settings.max_video_sessions > 0 and video_is_offered()
    return {wire: codec for wire, codec in FRAME_CODECS.items() if video or codec not in VIDEO_CODECS}


def read_config(
    config: pb.SessionConfig, settings: Settings, models: Sequence[ModelInfo], served: Sequence[ModelInfo]
) -> SessionOptions:
    """The options that a config asks for. Raises INVALID_ARGUMENT naming the field and what is allowed.

    ``models``: those that the caller may use, its default first; it raises NotAllowed for others that are
    ``served``.
    """
    if len(config.camera_id) > MAX_CAMERA_ID:
        raise invalid_argument(
            "config.camera_id", f"{len(config.camera_id)} characters", f"at most {MAX_CAMERA_ID}"
        )
    codecs = offered_codecs(settings)
    codec = codecs.get(config.frame_codec or pb.FRAME_CODEC_JPEG)
    if codec is None:
        raise _unknown("config.frame_codec", pb.FrameCodec, config.frame_codec, sorted(codecs))
    if config.rotation not in ROTATIONS:
        allowed = ", ".join(str(each) for each in ROTATIONS) + " (degrees clockwise)"
        raise invalid_argument("config.rotation", str(config.rotation), allowed)
    policy = QUEUE_POLICIES.get(config.queue_policy or pb.QUEUE_POLICY_WAIT)
    if policy is None:
        raise _unknown("config.queue_policy", pb.QueuePolicy, config.queue_policy, list(QUEUE_POLICIES))
    form = MASK_FORMATS.get(config.mask_encoding or pb.MASK_ENCODING_PNG)
    if form is None:
        raise _unknown("config.mask_encoding", pb.MaskEncoding, config.mask_encoding, list(MASK_FORMATS))
    model = _model(config.model, models, served)
    max_delay = min(config.max_delay_ms / 1000, settings.max_delay) if model.looks_ahead else 0.0
    in_flight = _frames_in_flight(config, settings) + frames_held(max_delay)
    return SessionOptions(
        camera_id=config.camera_id,
        model=model,
        mask_format=form,
        queue_policy=policy,
        frames_in_flight=effective_limit(policy, in_flight),
        output_size=_size(config, "output_size", settings.max_frame_pixels, settings),
        compute_size=_size(config, "compute_size", settings.max_compute_pixels, settings),
        block_budget=_budget(config.block_budget),
        weight=_weight(config.weight),
        include_bins=config.include_bins,
        include_confidence=config.include_confidence,
        max_delay=max_delay,
        wishes=read_wishes(config, model),
        codec=codec,
        rotation=config.rotation,
    )


def _unknown(field: str, enum: object, value: int, allowed: Sequence[int]) -> Exception:
    names = {number: name for name, number in enum.items()}  # type: ignore[attr-defined]
    return invalid_argument(
        field, f"{names.get(value, value)} is not offered", ", ".join(names[number] for number in allowed)
    )


def _model(name: str, models: Sequence[ModelInfo], served: Sequence[ModelInfo]) -> ModelInfo:
    if not name:
        return models[0]
    for model in models:
        if model.name == name:
            return model
    if any(model.name == name for model in served):
        allowed = ", ".join(model.name for model in models)
        raise NotAllowed(f"config.model: this identity may not use {name!r}; allowed: {allowed}")
    raise invalid_argument(
        "config.model", f"unknown model {name[:80]!r}", ", ".join(model.name for model in models)
    )


def _frames_in_flight(config: pb.SessionConfig, settings: Settings) -> int:
    limit = settings.max_frames_in_flight
    if config.frames_in_flight > limit:
        raise invalid_argument(
            "config.frames_in_flight", str(config.frames_in_flight), f"0 (default) to {limit}"
        )
    return config.frames_in_flight or min(DEFAULT_FRAMES_IN_FLIGHT, limit)


def frames_held(max_delay: float) -> int:
    """How many frames of a session may wait for later ones: those of a delay, seconds, at a usual rate."""
    return min(math.ceil(max_delay * _USUAL_RATE), MOST_HELD)


def _size(config: pb.SessionConfig, name: str, max_pixels: int, settings: Settings) -> tuple[int, int] | None:
    if not config.HasField(name):
        return None
    size: pb.Size = getattr(config, name)
    side = settings.max_frame_side
    allowed = f"width and height 1 to {side}, width * height at most {max_pixels} pixels"
    for part, value in (("width", size.width), ("height", size.height)):
        if not 1 <= value <= side:
            raise invalid_argument(f"config.{name}.{part}", str(value), allowed)
    if size.width * size.height > max_pixels:
        raise invalid_argument(f"config.{name}", f"{size.width} x {size.height} pixels", allowed)
    return size.width, size.height


def _budget(value: float) -> float | None:
    if value == 0.0:
        return None
    if not 0.0 < value <= 1.0:  # also not for NaN
        raise invalid_argument("config.block_budget", f"{value:g}", "0 (automatic), or above 0 up to 1")
    return value


def _weight(value: float) -> float:
    if value == 0.0:
        return 1.0
    low, high = WEIGHTS
    if not (math.isfinite(value) and low <= value <= high):
        raise invalid_argument("config.weight", f"{value:g}", f"0 (default, 1), or {low:g} to {high:g}")
    return value
