"""How a session wants to be served, in Python's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict, TypeVar

from tilestream_client.errors import FieldError, InvalidConfig
from tilestream_client.outputs import Outputs, Region, Rule
from tilestream_client.v1 import segmentation_pb2 as pb

DEFAULT_FRAMES_IN_FLIGHT = 2
# With a policy that drops, frames that were given up are answered in frame order too, so they wait
# behind the one being computed: the client has to have more under way than the server keeps. So it has with B
# pictures, whose answers wait for that of a unit that is shown later.
HEADROOM = 16


class MaskEncoding(StrEnum):
    """How masks travel."""

    PNG = "png"  # palette PNG: small, any viewer shows it in colours
    RLE = "rle"  # run lengths: cheapest for both sides where regions are large
    RAW = "raw"  # one byte per pixel


class QueuePolicy(StrEnum):
    """What the server does with a frame that arrives while ``frames_in_flight`` are unanswered."""

    WAIT = "wait"  # nothing is dropped, the sender is slowed down: for files
    DROP_OLDEST = "drop-oldest"  # the oldest waiting frame is dropped: for cameras
    LATEST_ONLY = "latest-only"  # only the newest frame waits: for the lowest latency


class FrameCodec(StrEnum):
    """How frames are encoded."""

    JPEG = "jpeg"  # each by itself
    H264 = "h264"  # one access unit (Annex B) per frame
    H265 = "h265"  # likewise


_CODECS = {
    FrameCodec.JPEG: pb.FRAME_CODEC_JPEG,
    FrameCodec.H264: pb.FRAME_CODEC_H264,
    FrameCodec.H265: pb.FRAME_CODEC_H265,
}
_ENCODINGS = {
    MaskEncoding.PNG: pb.MASK_ENCODING_PNG,
    MaskEncoding.RLE: pb.MASK_ENCODING_RLE,
    MaskEncoding.RAW: pb.MASK_ENCODING_RAW,
}
_POLICIES = {
    QueuePolicy.WAIT: pb.QUEUE_POLICY_WAIT,
    QueuePolicy.DROP_OLDEST: pb.QUEUE_POLICY_DROP_OLDEST,
    QueuePolicy.LATEST_ONLY: pb.QUEUE_POLICY_LATEST_ONLY,
}
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """The options of a stream. Every default means "as the server likes it".

    model: name from ``client.models()``; "" = the server's default model.
    mask_encoding, queue_policy: see the enums; their values ("png", "drop-oldest") do as well.
    frames_in_flight: most frames between your iterator and your loop; 0 = the server's default (2).
        With a policy that drops, 16 more may be under way.
    output_size: (width, height) of the masks; None = the size of each frame.
    compute_size: (width, height) the network works at; None = the size of each frame, limited.
    block_budget: share (0, 1] of the block units that a frame may compute; 0 = automatic.
    weight: share of this session in a busy server relative to others; 0 = 1.
    max_delay_ms: how long results may wait for later frames, milliseconds: the same accuracy for less
        computing. 0 = not at all. ``stream.session.config`` says what is in force.
    include_bins, include_confidence: ask for ``Result.bins`` and ``Result.confidence``.
    camera_id: a name for people and logs.
    outputs: what results say of the labels beside the mask, or instead of it; None = nothing.
    regions: named parts of the picture, for ``Result.regions`` and rules.
    rules: what makes ``Result.events``.
    frame_codec: what frames are; "h264" and "h265" for access units, as VideoPackets gives them.
    rotation: degrees clockwise by which the server turns frames first: 0, 90, 180 or 270.
    """

    model: str = ""
    mask_encoding: MaskEncoding | str = MaskEncoding.PNG
    queue_policy: QueuePolicy | str = QueuePolicy.WAIT
    frames_in_flight: int = 0
    output_size: tuple[int, int] | None = None
    compute_size: tuple[int, int] | None = None
    block_budget: float = 0.0
    weight: float = 0.0
    max_delay_ms: int = 0
    include_bins: bool = False
    include_confidence: bool = False
    camera_id: str = ""
    outputs: Outputs | None = None
    regions: Sequence[Region] = ()
    rules: Sequence[Rule] = ()
    frame_codec: FrameCodec | str = FrameCodec.JPEG
    rotation: int = 0

    def to_proto(self) -> pb.SessionConfig:
        """As the message that opens a stream.

        Raises InvalidConfig for what cannot even be written; ranges are the server's to check.
        """
        encoding = _choice(MaskEncoding, self.mask_encoding, "mask_encoding")
        policy = _choice(QueuePolicy, self.queue_policy, "queue_policy")
        codec = _choice(FrameCodec, self.frame_codec, "frame_codec")
        try:
            message = pb.SessionConfig(
                model=self.model,
                mask_encoding=_ENCODINGS[encoding],
                frame_codec=_CODECS[codec],
                rotation=self.rotation,
                queue_policy=_POLICIES[policy],
                frames_in_flight=self.frames_in_flight,
                block_budget=self.block_budget,
                weight=self.weight,
                max_delay_ms=self.max_delay_ms,
                include_bins=self.include_bins,
                include_confidence=self.include_confidence,
                camera_id=self.camera_id,
                outputs=None if self.outputs is None else self.outputs.to_proto(),
                regions=[region.to_proto() for region in self.regions],
                rules=[rule.to_proto() for rule in self.rules],
            )
            for name in ("output_size", "compute_size"):
                size = getattr(self, name)
                if size is not None:
                    width, height = size
                    getattr(message, name).CopyFrom(pb.Size(width=width, height=height))
        except (TypeError, ValueError) as error:
            raise InvalidConfig(f"the stream's options are wrong: {error}") from error
        return message


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of ``client.stream()``: the fields of StreamConfig."""

    model: str
    mask_encoding: MaskEncoding | str
    queue_policy: QueuePolicy | str
    frames_in_flight: int
    output_size: tuple[int, int] | None
    compute_size: tuple[int, int] | None
    block_budget: float
    weight: float
    max_delay_ms: int
    include_bins: bool
    include_confidence: bool
    camera_id: str
    outputs: Outputs | None
    regions: Sequence[Region]
    rules: Sequence[Rule]
    frame_codec: FrameCodec | str
    rotation: int


def send_window(config: pb.SessionConfig, *, reordered: bool = True) -> int:
    """How many frames a client may have between its source and its caller under ``config``.

    ``reordered``: where they are video, pictures may be shown in another order than that of the units.
    """
    in_flight = config.frames_in_flight or DEFAULT_FRAMES_IN_FLIGHT
    dropping = config.queue_policy in (pb.QUEUE_POLICY_DROP_OLDEST, pb.QUEUE_POLICY_LATEST_ONLY)
    waits_for_later = reordered and codec_from_proto(config.frame_codec) != FrameCodec.JPEG
    return in_flight + (HEADROOM if dropping or waits_for_later else 0)


def codec_from_proto(value: int) -> str:
    """The name of a FrameCodec number, "jpeg" for 0; "codec 9" for one this release does not know."""
    value = value or pb.FRAME_CODEC_JPEG
    return next((name.value for name, number in _CODECS.items() if number == value), f"codec {value}")


def encoding_from_proto(value: int) -> str:
    """The name of a MaskEncoding number; "encoding 9" for one this release does not know."""
    return next((name.value for name, number in _ENCODINGS.items() if number == value), f"encoding {value}")


def policy_from_proto(value: int) -> str:
    """The name of a QueuePolicy number; "policy 9" for one this release does not know."""
    return next((name.value for name, number in _POLICIES.items() if number == value), f"policy {value}")


def _choice(kind: type[_Choice], value: str, field: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        problem = f"must be one of {_quoted(kind)}, not {value!r}"
        raise InvalidConfig(f"{field} {problem}", fields=(FieldError(field, problem),)) from None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
