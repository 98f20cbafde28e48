"""What became of one frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from tilestream_client import jpeg, masks, overlay
from tilestream_client.bins import Bins
from tilestream_client.bins import from_proto as bins_from_proto
from tilestream_client.config import FrameCodec, encoding_from_proto
from tilestream_client.errors import MaskError, ProtocolError
from tilestream_client.findings import (
    ClassArea,
    Event,
    Instance,
    RegionAreas,
    areas_from_proto,
    events_from_proto,
    instances_from_proto,
    regions_from_proto,
)
from tilestream_client.frames import Frame
from tilestream_client.info import LabelClass, Model, Session, UInt8Array, enum_name
from tilestream_client.v1 import segmentation_pb2 as pb


class FrameStatus(StrEnum):
    """What became of a frame."""

    OK = "ok"  # there are labels: a mask, unless ``Outputs.no_mask``
    DROPPED = "dropped"  # the server did not compute it; the frame itself may be fine
    INVALID = "invalid"  # the frame cannot be used; sending it again will not help


@dataclass(frozen=True, slots=True)
class Times:
    """Where the time of a frame went on the server, seconds; 0 = did not happen.

    engine: the step that computed it, shared with frames of others. motion, gate, tables, backbone, head: its
    own share of that step.
    """

    total: float = 0.0
    queue: float = 0.0
    decode: float = 0.0
    engine: float = 0.0
    motion: float = 0.0
    gate: float = 0.0
    tables: float = 0.0
    backbone: float = 0.0
    head: float = 0.0
    encode: float = 0.0


@dataclass(frozen=True, slots=True)
class ReuseStats:
    """What a frame cost and what was reused from earlier ones.

    units_computed, units_dropped: block units (residual block x bin). mean_distortion: over all bins.
    block_budget: share of units this frame was allowed. macs: multiply-accumulates, 0 = not counted.
    agreement: share of pixels that kept their label where reused bins were recomputed, None = cannot tell.
    bins_refreshed: bins computed anew in a frame that is not a key frame. refresh_changed: share of their
    pixels that got another label, None = cannot tell.
    frames_since_source: since the frame that labels were moved from, 0 = they are its own;
    frames_until_source: until the one after it that they were moved from, too. None = there is none.
    future_share: of the pixels, those whose label came from that one.
    """

    key_frame: bool = False
    units_computed: int = 0
    units_dropped: int = 0
    mean_distortion: float = 0.0
    block_budget: float = 0.0
    macs: int = 0
    agreement: float | None = None
    bins_refreshed: int = 0
    refresh_changed: float | None = None
    frames_since_source: int | None = None
    frames_until_source: int | None = None
    future_share: float = 0.0

    @property
    def block_drop_rate(self) -> float:
        """Dropped block units / all of them, 0..1; 0 where there are none."""
        return self.units_dropped / max(1, self.units_computed + self.units_dropped)


@dataclass(frozen=True, slots=True)
class EncodedMask:
    """A map of bytes as it travelled: ``encoding`` is "png", "rle" or "raw"."""

    width: int
    height: int
    encoding: str
    data: bytes = field(repr=False)

    def decode(self) -> UInt8Array:
        """uint8 [height, width]. Raises MaskError where the data is not what it says."""
        decoder = _DECODERS.get(self.encoding)
        if decoder is None:
            raise MaskError(f"masks of {self.encoding} need a newer tilestream-client")
        return decoder(self.data, self.width, self.height)


_DECODERS = {"png": masks.decode_png, "rle": masks.decode_rle, "raw": masks.decode_raw}


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame as it was sent, and the degrees clockwise by which the server turned it."""

    data: bytes = field(default=b"", repr=False)
    codec: FrameCodec = FrameCodec.JPEG
    rotation: int = 0


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to one frame. Masks and images are decoded when they are first asked for.

    frame_id: position of the frame in your source, from 0.
    name: the frame's name in its source (a file name); "" where it has none.
    status, ok: whether there are labels. reason: why not, one word such as "queue_full"; "" where ok.
    detail: more about the reason, for people; where ok, which of the outputs are incomplete, "" for none.
    latency: seconds from handing the frame to gRPC to reading its answer, by this machine's clock.
    capture_time: seconds since the Unix epoch as given with the frame; 0 = unknown.
    times: where the time went on the server. reuse: None unless ok. bins: None unless asked for.
    sent: the frame as it was sent. shown: its picture, where the source gave one beside it.
    model: the model that served it, with classes and palette.
    areas, instances, regions, events: as the stream's ``outputs``, ``regions`` and ``rules`` ask for them.
    output_size: (width, height) of masks where the stream asked for one, else None.
    """

    frame_id: int
    status: FrameStatus
    model: Model
    name: str = ""
    reason: str = ""
    detail: str = ""
    latency: float = 0.0
    capture_time: float = 0.0
    times: Times = field(default_factory=Times)
    reuse: ReuseStats | None = None
    bins: Bins | None = None
    mask: EncodedMask | None = None
    confidence_map: EncodedMask | None = field(default=None, repr=False)
    sent: Sent = field(default=Sent(), repr=False)
    shown: UInt8Array | None = field(default=None, repr=False)
    areas: tuple[ClassArea, ...] = ()
    instances: tuple[Instance, ...] = ()
    regions: tuple[RegionAreas, ...] = ()
    events: tuple[Event, ...] = ()
    output_size: tuple[int, int] | None = None

    @property
    def ok(self) -> bool:
        """There are labels, and a mask unless the stream asked for none."""
        return self.status is FrameStatus.OK

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The model's classes."""
        return self.model.classes

    @property
    def palette(self) -> UInt8Array:
        """uint8 [256, 3] RGB: the colour of every label value."""
        return self.model.palette

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """(width, height) in pixels of the mask, and of all that is said of it; None unless ok."""
        if not self.ok:
            return None
        if self.mask is not None:
            return self.mask.width, self.mask.height
        return self.output_size or jpeg.frame_size(self.jpeg)

    @cached_property
    def labels(self) -> UInt8Array | None:
        """uint8 [H, W] of label values; None without a mask. Raises MaskError where it is damaged."""
        return None if self.mask is None else self.mask.decode()

    @cached_property
    def confidence(self) -> UInt8Array | None:
        """uint8 [H, W], 0 = a tie of the two best classes, 255 = certain; None unless asked for and ok."""
        return None if self.confidence_map is None else self.confidence_map.decode()

    @cached_property
    def image(self) -> UInt8Array | None:
        """uint8 [H, W, 3] RGB: the frame that was sent, as the server saw it, upright.

        None if it is no image, or an access unit whose picture the source did not give.
        """
        if self.shown is not None or self.sent.codec is not FrameCodec.JPEG:
            return self.shown
        image = jpeg.decode_frame(self.sent.data)
        if image is None or not self.sent.rotation:
            return image
        return np.ascontiguousarray(np.rot90(image, -self.sent.rotation // 90))

    @property
    def jpeg(self) -> bytes:
        """The frame as it was sent, whatever its codec."""
        return self.sent.data

    def colorize(self) -> UInt8Array:
        """uint8 [H, W, 3] RGB: the labels in the model's colours. Raises ValueError unless ok."""
        return overlay.colorize(self._labels(), self.palette)

    def overlay(self, alpha: float = 0.5, *, show_bins: bool = False) -> UInt8Array:
        """uint8 [H, W, 3] RGB: the labels' colours over the frame; ``alpha`` 1 = colours only.

        Instances are drawn over it, without a mask over the frame alone.
        show_bins: tint what was computed for this frame, see ``overlay.draw_bins``; the stream needs
        ``include_bins=True``. Raises ValueError unless ok, or where there is no account of the bins.
        """
        if self.image is None:
            raise ValueError(f"frame {self.frame_id} is no image")
        picture = self.image
        if self.mask is not None or not self.ok:
            picture = overlay.blend(self.image, self._labels(), self.palette, alpha)
        if self.instances and self.size is not None:
            picture = overlay.draw_instances(picture, self.instances, self.size, self.classes)
        if not show_bins:
            return picture
        if self.bins is None:
            raise ValueError(f"frame {self.frame_id} has no account of its bins; ask with include_bins=True")
        return overlay.draw_bins(picture, self.bins)

    def _labels(self) -> UInt8Array:
        if self.labels is None:
            why = "the stream asked for none" if self.ok else f"{self.status} ({self.reason})"
            raise ValueError(f"frame {self.frame_id} has no mask: {why}")
        return self.labels


def from_proto(
    message: pb.FrameResult, session: Session, *, frame: Frame, sent: Sent, latency: float
) -> Result:
    """The generated message with what only the client knows.

    Raises ProtocolError for a status that this release does not know.
    """
    status, config = _STATUS.get(message.status), session.config
    wants_mask = status is FrameStatus.OK and not config.outputs.no_mask
    if status is None or wants_mask != message.HasField("mask"):
        raise ProtocolError(f"the answer to frame {message.frame_id} makes no sense: status {message.status}")
    return Result(
        frame_id=message.frame_id,
        status=status,
        model=session.model,
        name=frame.name,
        reason=_reason(message, status),
        detail=message.detail,
        latency=latency,
        capture_time=message.capture_time_us / 1e6,
        times=_times(message.times),
        reuse=_reuse(message.reuse) if message.HasField("reuse") else None,
        bins=bins_from_proto(message.bins) if message.HasField("bins") else None,
        mask=_mask(message.mask) if message.HasField("mask") else None,
        confidence_map=_mask(message.confidence) if message.HasField("confidence") else None,
        sent=sent,
        shown=frame.image if sent.codec is not FrameCodec.JPEG else None,
        areas=areas_from_proto(message.areas),
        instances=instances_from_proto(message.instances),
        regions=regions_from_proto(message.regions),
        events=events_from_proto(message.events),
        output_size=_output_size(config),
    )


_STATUS = {
    pb.FRAME_STATUS_OK: FrameStatus.OK,
    pb.FRAME_STATUS_DROPPED: FrameStatus.DROPPED,
    pb.FRAME_STATUS_INVALID: FrameStatus.INVALID,
}


def _reason(message: pb.FrameResult, status: FrameStatus) -> str:
    if status is FrameStatus.DROPPED:
        return enum_name(pb.DropReason, message.drop_reason, "DROP_REASON_")
    if status is FrameStatus.INVALID:
        return enum_name(pb.InvalidReason, message.invalid_reason, "INVALID_REASON_")
    return ""


def _output_size(config: pb.SessionConfig) -> tuple[int, int] | None:
    size = config.output_size
    return (size.width, size.height) if config.HasField("output_size") else None


def _times(times: pb.StageTimes) -> Times:
    return Times(
        total=times.total_us / 1e6,
        queue=times.queue_us / 1e6,
        decode=times.decode_us / 1e6,
        engine=times.engine_us / 1e6,
        motion=times.motion_us / 1e6,
        gate=times.gate_us / 1e6,
        tables=times.tables_us / 1e6,
        backbone=times.backbone_us / 1e6,
        head=times.head_us / 1e6,
        encode=times.encode_us / 1e6,
    )


_MAY_BE_UNKNOWN = ("agreement", "refresh_changed", "frames_since_source", "frames_until_source")


def _reuse(reuse: pb.ReuseStats) -> ReuseStats:
    return ReuseStats(
        key_frame=reuse.key_frame,
        units_computed=reuse.units_computed,
        units_dropped=reuse.units_dropped,
        mean_distortion=reuse.mean_distortion,
        block_budget=reuse.block_budget,
        macs=reuse.macs,
        bins_refreshed=reuse.bins_refreshed,
        future_share=reuse.future_share,
        **{name: getattr(reuse, name) for name in _MAY_BE_UNKNOWN if reuse.HasField(name)},  # type: ignore[arg-type]
    )


def _mask(mask: pb.Mask | pb.ConfidenceMap) -> EncodedMask:
    return EncodedMask(mask.width, mask.height, encoding_from_proto(mask.encoding), mask.data)
