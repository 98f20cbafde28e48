from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MaskEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_ENCODING_UNSPECIFIED: _ClassVar[MaskEncoding]
    MASK_ENCODING_PNG: _ClassVar[MaskEncoding]
    MASK_ENCODING_RLE: _ClassVar[MaskEncoding]
    MASK_ENCODING_RAW: _ClassVar[MaskEncoding]

class FrameCodec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_CODEC_UNSPECIFIED: _ClassVar[FrameCodec]
    FRAME_CODEC_JPEG: _ClassVar[FrameCodec]
    FRAME_CODEC_H264: _ClassVar[FrameCodec]
    FRAME_CODEC_H265: _ClassVar[FrameCodec]

class QueuePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUEUE_POLICY_UNSPECIFIED: _ClassVar[QueuePolicy]
    QUEUE_POLICY_WAIT: _ClassVar[QueuePolicy]
    QUEUE_POLICY_DROP_OLDEST: _ClassVar[QueuePolicy]
    QUEUE_POLICY_LATEST_ONLY: _ClassVar[QueuePolicy]

class FrameStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_STATUS_UNSPECIFIED: _ClassVar[FrameStatus]
    FRAME_STATUS_OK: _ClassVar[FrameStatus]
    FRAME_STATUS_DROPPED: _ClassVar[FrameStatus]
    FRAME_STATUS_INVALID: _ClassVar[FrameStatus]

class DropReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DROP_REASON_UNSPECIFIED: _ClassVar[DropReason]
    DROP_REASON_QUEUE_FULL: _ClassVar[DropReason]
    DROP_REASON_SUPERSEDED: _ClassVar[DropReason]
    DROP_REASON_OVERLOAD: _ClassVar[DropReason]
    DROP_REASON_ENGINE_ERROR: _ClassVar[DropReason]
    DROP_REASON_SHUTDOWN: _ClassVar[DropReason]
    DROP_REASON_QUOTA: _ClassVar[DropReason]

class InvalidReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVALID_REASON_UNSPECIFIED: _ClassVar[InvalidReason]
    INVALID_REASON_EMPTY: _ClassVar[InvalidReason]
    INVALID_REASON_TOO_MANY_BYTES: _ClassVar[InvalidReason]
    INVALID_REASON_TOO_MANY_PIXELS: _ClassVar[InvalidReason]
    INVALID_REASON_NOT_JPEG: _ClassVar[InvalidReason]
    INVALID_REASON_TRUNCATED: _ClassVar[InvalidReason]
    INVALID_REASON_CORRUPT: _ClassVar[InvalidReason]
    INVALID_REASON_UNSUPPORTED: _ClassVar[InvalidReason]
    INVALID_REASON_NO_KEY_UNIT: _ClassVar[InvalidReason]
    INVALID_REASON_TOO_COSTLY: _ClassVar[InvalidReason]

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_BEGAN: _ClassVar[EventKind]
    EVENT_KIND_ENDED: _ClassVar[EventKind]

class DrainReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRAIN_REASON_UNSPECIFIED: _ClassVar[DrainReason]
    DRAIN_REASON_SHUTDOWN: _ClassVar[DrainReason]
    DRAIN_REASON_MAX_AGE: _ClassVar[DrainReason]

class SessionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATE_UNSPECIFIED: _ClassVar[SessionState]
    SESSION_STATE_ACTIVE: _ClassVar[SessionState]
    SESSION_STATE_DRAINING: _ClassVar[SessionState]
    SESSION_STATE_SUSPENDED: _ClassVar[SessionState]
MASK_ENCODING_UNSPECIFIED: MaskEncoding
MASK_ENCODING_PNG: MaskEncoding
MASK_ENCODING_RLE: MaskEncoding
MASK_ENCODING_RAW: MaskEncoding
FRAME_CODEC_UNSPECIFIED: FrameCodec
FRAME_CODEC_JPEG: FrameCodec
FRAME_CODEC_H264: FrameCodec
FRAME_CODEC_H265: FrameCodec
QUEUE_POLICY_UNSPECIFIED: QueuePolicy
QUEUE_POLICY_WAIT: QueuePolicy
QUEUE_POLICY_DROP_OLDEST: QueuePolicy
QUEUE_POLICY_LATEST_ONLY: QueuePolicy
FRAME_STATUS_UNSPECIFIED: FrameStatus
FRAME_STATUS_OK: FrameStatus
FRAME_STATUS_DROPPED: FrameStatus
FRAME_STATUS_INVALID: FrameStatus
DROP_REASON_UNSPECIFIED: DropReason
DROP_REASON_QUEUE_FULL: DropReason
DROP_REASON_SUPERSEDED: DropReason
DROP_REASON_OVERLOAD: DropReason
DROP_REASON_ENGINE_ERROR: DropReason
DROP_REASON_SHUTDOWN: DropReason
DROP_REASON_QUOTA: DropReason
INVALID_REASON_UNSPECIFIED: InvalidReason
INVALID_REASON_EMPTY: InvalidReason
INVALID_REASON_TOO_MANY_BYTES: InvalidReason
INVALID_REASON_TOO_MANY_PIXELS: InvalidReason
INVALID_REASON_NOT_JPEG: InvalidReason
INVALID_REASON_TRUNCATED: InvalidReason
INVALID_REASON_CORRUPT: InvalidReason
INVALID_REASON_UNSUPPORTED: InvalidReason
INVALID_REASON_NO_KEY_UNIT: InvalidReason
INVALID_REASON_TOO_COSTLY: InvalidReason
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_BEGAN: EventKind
EVENT_KIND_ENDED: EventKind
DRAIN_REASON_UNSPECIFIED: DrainReason
DRAIN_REASON_SHUTDOWN: DrainReason
DRAIN_REASON_MAX_AGE: DrainReason
SESSION_STATE_UNSPECIFIED: SessionState
SESSION_STATE_ACTIVE: SessionState
SESSION_STATE_DRAINING: SessionState
SESSION_STATE_SUSPENDED: SessionState

class StreamSegmentRequest(_message.Message):
    __slots__ = ("config", "frame", "heartbeat")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    config: SessionConfig
    frame: Frame
    heartbeat: Heartbeat
    def __init__(self, config: _Optional[_Union[SessionConfig, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class StreamSegmentResponse(_message.Message):
    __slots__ = ("session_started", "result", "heartbeat", "draining")
    SESSION_STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    session_started: SessionStarted
    result: FrameResult
    heartbeat: Heartbeat
    draining: DrainingNotice
    def __init__(self, session_started: _Optional[_Union[SessionStarted, _Mapping]] = ..., result: _Optional[_Union[FrameResult, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., draining: _Optional[_Union[DrainingNotice, _Mapping]] = ...) -> None: ...

class SessionConfig(_message.Message):
    __slots__ = ("camera_id", "model", "mask_encoding", "frame_codec", "queue_policy", "frames_in_flight", "output_size", "compute_size", "block_budget", "weight", "include_bins", "include_confidence", "resume_token", "last_result_id", "max_delay_ms", "rotation", "outputs", "regions", "rules")
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MASK_ENCODING_FIELD_NUMBER: _ClassVar[int]
    FRAME_CODEC_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POLICY_FIELD_NUMBER: _ClassVar[int]
    FRAMES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BUDGET_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_BINS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LAST_RESULT_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    camera_id: str
    model: str
    mask_encoding: MaskEncoding
    frame_codec: FrameCodec
    queue_policy: QueuePolicy
    frames_in_flight: int
    output_size: Size
    compute_size: Size
    block_budget: float
    weight: float
    include_bins: bool
    include_confidence: bool
    resume_token: bytes
    last_result_id: int
    max_delay_ms: int
    rotation: int
    outputs: Outputs
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    def __init__(self, camera_id: _Optional[str] = ..., model: _Optional[str] = ..., mask_encoding: _Optional[_Union[MaskEncoding, str]] = ..., frame_codec: _Optional[_Union[FrameCodec, str]] = ..., queue_policy: _Optional[_Union[QueuePolicy, str]] = ..., frames_in_flight: _Optional[int] = ..., output_size: _Optional[_Union[Size, _Mapping]] = ..., compute_size: _Optional[_Union[Size, _Mapping]] = ..., block_budget: _Optional[float] = ..., weight: _Optional[float] = ..., include_bins: bool = ..., include_confidence: bool = ..., resume_token: _Optional[bytes] = ..., last_result_id: _Optional[int] = ..., max_delay_ms: _Optional[int] = ..., rotation: _Optional[int] = ..., outputs: _Optional[_Union[Outputs, _Mapping]] = ..., regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ...) -> None: ...

class Outputs(_message.Message):
    __slots__ = ("no_mask", "areas", "instances", "min_instance_pixels", "instance_classes", "polygons", "polygon_tolerance", "coco_rle")
    NO_MASK_FIELD_NUMBER: _ClassVar[int]
    AREAS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    MIN_INSTANCE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_CLASSES_FIELD_NUMBER: _ClassVar[int]
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    POLYGON_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    COCO_RLE_FIELD_NUMBER: _ClassVar[int]
    no_mask: bool
    areas: bool
    instances: bool
    min_instance_pixels: int
    instance_classes: _containers.RepeatedScalarFieldContainer[int]
    polygons: bool
    polygon_tolerance: float
    coco_rle: bool
    def __init__(self, no_mask: bool = ..., areas: bool = ..., instances: bool = ..., min_instance_pixels: _Optional[int] = ..., instance_classes: _Optional[_Iterable[int]] = ..., polygons: bool = ..., polygon_tolerance: _Optional[float] = ..., coco_rle: bool = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("name", "points")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    points: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, name: _Optional[str] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("name", "classes", "region", "above_share", "for_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ABOVE_SHARE_FIELD_NUMBER: _ClassVar[int]
    FOR_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    classes: _containers.RepeatedScalarFieldContainer[int]
    region: str
    above_share: float
    for_ms: int
    def __init__(self, name: _Optional[str] = ..., classes: _Optional[_Iterable[int]] = ..., region: _Optional[str] = ..., above_share: _Optional[float] = ..., for_ms: _Optional[int] = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("frame_id", "capture_time_us", "data", "force_key_frame", "decode_only")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_US_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FORCE_KEY_FRAME_FIELD_NUMBER: _ClassVar[int]
    DECODE_ONLY_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    capture_time_us: int
    data: bytes
    force_key_frame: bool
    decode_only: bool
    def __init__(self, frame_id: _Optional[int] = ..., capture_time_us: _Optional[int] = ..., data: _Optional[bytes] = ..., force_key_frame: bool = ..., decode_only: bool = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("time_us",)
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    time_us: int
    def __init__(self, time_us: _Optional[int] = ...) -> None: ...

class SessionStarted(_message.Message):
    __slots__ = ("session_id", "resume_token", "resumed", "last_frame_id", "model", "config", "limits")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    resume_token: bytes
    resumed: bool
    last_frame_id: int
    model: Model
    config: SessionConfig
    limits: SessionLimits
    def __init__(self, session_id: _Optional[str] = ..., resume_token: _Optional[bytes] = ..., resumed: bool = ..., last_frame_id: _Optional[int] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., config: _Optional[_Union[SessionConfig, _Mapping]] = ..., limits: _Optional[_Union[SessionLimits, _Mapping]] = ...) -> None: ...

class SessionLimits(_message.Message):
    __slots__ = ("max_frame_bytes", "max_frame_pixels", "max_frame_side", "max_compute_pixels", "max_message_bytes", "max_frames_in_flight", "heartbeat_interval_ms", "idle_timeout_ms", "max_session_age_ms", "resume_ttl_ms", "max_delay_ms", "max_frames_per_second")
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_SIDE_FIELD_NUMBER: _ClassVar[int]
    MAX_COMPUTE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    max_frame_bytes: int
    max_frame_pixels: int
    max_frame_side: int
    max_compute_pixels: int
    max_message_bytes: int
    max_frames_in_flight: int
    heartbeat_interval_ms: int
    idle_timeout_ms: int
    max_session_age_ms: int
    resume_ttl_ms: int
    max_delay_ms: int
    max_frames_per_second: float
    def __init__(self, max_frame_bytes: _Optional[int] = ..., max_frame_pixels: _Optional[int] = ..., max_frame_side: _Optional[int] = ..., max_compute_pixels: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_frames_in_flight: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., idle_timeout_ms: _Optional[int] = ..., max_session_age_ms: _Optional[int] = ..., resume_ttl_ms: _Optional[int] = ..., max_delay_ms: _Optional[int] = ..., max_frames_per_second: _Optional[float] = ...) -> None: ...

class FrameResult(_message.Message):
    __slots__ = ("frame_id", "capture_time_us", "status", "drop_reason", "invalid_reason", "detail", "mask", "confidence", "reuse", "bins", "times", "areas", "instances", "regions", "events")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_US_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DROP_REASON_FIELD_NUMBER: _ClassVar[int]
    INVALID_REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    REUSE_FIELD_NUMBER: _ClassVar[int]
    BINS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    AREAS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    capture_time_us: int
    status: FrameStatus
    drop_reason: DropReason
    invalid_reason: InvalidReason
    detail: str
    mask: Mask
    confidence: ConfidenceMap
    reuse: ReuseStats
    bins: BinAccount
    times: StageTimes
    areas: _containers.RepeatedCompositeFieldContainer[ClassArea]
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    regions: _containers.RepeatedCompositeFieldContainer[RegionAreas]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, frame_id: _Optional[int] = ..., capture_time_us: _Optional[int] = ..., status: _Optional[_Union[FrameStatus, str]] = ..., drop_reason: _Optional[_Union[DropReason, str]] = ..., invalid_reason: _Optional[_Union[InvalidReason, str]] = ..., detail: _Optional[str] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ..., confidence: _Optional[_Union[ConfidenceMap, _Mapping]] = ..., reuse: _Optional[_Union[ReuseStats, _Mapping]] = ..., bins: _Optional[_Union[BinAccount, _Mapping]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ..., areas: _Optional[_Iterable[_Union[ClassArea, _Mapping]]] = ..., instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., regions: _Optional[_Iterable[_Union[RegionAreas, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class ClassArea(_message.Message):
    __slots__ = ("value", "pixels", "share", "coco_rle")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    COCO_RLE_FIELD_NUMBER: _ClassVar[int]
    value: int
    pixels: int
    share: float
    coco_rle: bytes
    def __init__(self, value: _Optional[int] = ..., pixels: _Optional[int] = ..., share: _Optional[float] = ..., coco_rle: _Optional[bytes] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("value", "pixels", "box", "centroid", "polygons", "coco_rle")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    CENTROID_FIELD_NUMBER: _ClassVar[int]
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    COCO_RLE_FIELD_NUMBER: _ClassVar[int]
    value: int
    pixels: int
    box: Box
    centroid: Point
    polygons: _containers.RepeatedCompositeFieldContainer[Polygon]
    coco_rle: bytes
    def __init__(self, value: _Optional[int] = ..., pixels: _Optional[int] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., centroid: _Optional[_Union[Point, _Mapping]] = ..., polygons: _Optional[_Iterable[_Union[Polygon, _Mapping]]] = ..., coco_rle: _Optional[bytes] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x", "y", "width", "height")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    width: int
    height: int
    def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Polygon(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, points: _Optional[_Iterable[float]] = ...) -> None: ...

class RegionAreas(_message.Message):
    __slots__ = ("name", "pixels", "areas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    AREAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    pixels: int
    areas: _containers.RepeatedCompositeFieldContainer[ClassArea]
    def __init__(self, name: _Optional[str] = ..., pixels: _Optional[int] = ..., areas: _Optional[_Iterable[_Union[ClassArea, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("rule", "kind", "time_us")
    RULE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    rule: str
    kind: EventKind
    time_us: int
    def __init__(self, rule: _Optional[str] = ..., kind: _Optional[_Union[EventKind, str]] = ..., time_us: _Optional[int] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("width", "height", "encoding", "data")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    encoding: MaskEncoding
    data: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., encoding: _Optional[_Union[MaskEncoding, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ConfidenceMap(_message.Message):
    __slots__ = ("width", "height", "encoding", "data")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    encoding: MaskEncoding
    data: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., encoding: _Optional[_Union[MaskEncoding, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ReuseStats(_message.Message):
    __slots__ = ("key_frame", "units_computed", "units_dropped", "mean_distortion", "block_budget", "macs", "agreement", "bins_refreshed", "refresh_changed", "frames_since_source", "frames_until_source", "future_share")
    KEY_FRAME_FIELD_NUMBER: _ClassVar[int]
    UNITS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    UNITS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    MEAN_DISTORTION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BUDGET_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    BINS_REFRESHED_FIELD_NUMBER: _ClassVar[int]
    REFRESH_CHANGED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_SINCE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_UNTIL_SOURCE_FIELD_NUMBER: _ClassVar[int]
    FUTURE_SHARE_FIELD_NUMBER: _ClassVar[int]
    key_frame: bool
    units_computed: int
    units_dropped: int
    mean_distortion: float
    block_budget: float
    macs: int
    agreement: float
    bins_refreshed: int
    refresh_changed: float
    frames_since_source: int
    frames_until_source: int
    future_share: float
    def __init__(self, key_frame: bool = ..., units_computed: _Optional[int] = ..., units_dropped: _Optional[int] = ..., mean_distortion: _Optional[float] = ..., block_budget: _Optional[float] = ..., macs: _Optional[int] = ..., agreement: _Optional[float] = ..., bins_refreshed: _Optional[int] = ..., refresh_changed: _Optional[float] = ..., frames_since_source: _Optional[int] = ..., frames_until_source: _Optional[int] = ..., future_share: _Optional[float] = ...) -> None: ...

class BinAccount(_message.Message):
    __slots__ = ("bin_size", "columns", "rows", "units_computed", "distortion", "age", "width", "height", "units_per_bin", "changed")
    BIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    UNITS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    DISTORTION_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    UNITS_PER_BIN_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    bin_size: int
    columns: int
    rows: int
    units_computed: _containers.RepeatedScalarFieldContainer[int]
    distortion: _containers.RepeatedScalarFieldContainer[float]
    age: _containers.RepeatedScalarFieldContainer[int]
    width: int
    height: int
    units_per_bin: int
    changed: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, bin_size: _Optional[int] = ..., columns: _Optional[int] = ..., rows: _Optional[int] = ..., units_computed: _Optional[_Iterable[int]] = ..., distortion: _Optional[_Iterable[float]] = ..., age: _Optional[_Iterable[int]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., units_per_bin: _Optional[int] = ..., changed: _Optional[_Iterable[float]] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("total_us", "queue_us", "decode_us", "engine_us", "motion_us", "gate_us", "backbone_us", "head_us", "encode_us", "tables_us")
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    ENGINE_US_FIELD_NUMBER: _ClassVar[int]
    MOTION_US_FIELD_NUMBER: _ClassVar[int]
    GATE_US_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_US_FIELD_NUMBER: _ClassVar[int]
    HEAD_US_FIELD_NUMBER: _ClassVar[int]
    ENCODE_US_FIELD_NUMBER: _ClassVar[int]
    TABLES_US_FIELD_NUMBER: _ClassVar[int]
    total_us: int
    queue_us: int
    decode_us: int
    engine_us: int
    motion_us: int
    gate_us: int
    backbone_us: int
    head_us: int
    encode_us: int
    tables_us: int
    def __init__(self, total_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., decode_us: _Optional[int] = ..., engine_us: _Optional[int] = ..., motion_us: _Optional[int] = ..., gate_us: _Optional[int] = ..., backbone_us: _Optional[int] = ..., head_us: _Optional[int] = ..., encode_us: _Optional[int] = ..., tables_us: _Optional[int] = ...) -> None: ...

class DrainingNotice(_message.Message):
    __slots__ = ("reason", "grace_ms", "retry_delay_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    reason: DrainReason
    grace_ms: int
    retry_delay_ms: int
    def __init__(self, reason: _Optional[_Union[DrainReason, str]] = ..., grace_ms: _Optional[int] = ..., retry_delay_ms: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "description", "classes", "stride", "parameters", "reference_miou", "is_default")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_MIOU_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    classes: _containers.RepeatedCompositeFieldContainer[LabelClass]
    stride: int
    parameters: int
    reference_miou: float
    is_default: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., classes: _Optional[_Iterable[_Union[LabelClass, _Mapping]]] = ..., stride: _Optional[int] = ..., parameters: _Optional[int] = ..., reference_miou: _Optional[float] = ..., is_default: bool = ...) -> None: ...

class LabelClass(_message.Message):
    __slots__ = ("value", "name", "color")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COLOR_FIELD_NUMBER: _ClassVar[int]
    value: int
    name: str
    color: int
    def __init__(self, value: _Optional[int] = ..., name: _Optional[str] = ..., color: _Optional[int] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "device", "precision", "start_time_us", "draining", "sessions", "max_sessions", "limits", "frame_codecs", "mask_encodings", "queue_policies", "default_model", "time_us")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_US_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    FRAME_CODECS_FIELD_NUMBER: _ClassVar[int]
    MASK_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POLICIES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    version: str
    device: str
    precision: str
    start_time_us: int
    draining: bool
    sessions: int
    max_sessions: int
    limits: SessionLimits
    frame_codecs: _containers.RepeatedScalarFieldContainer[FrameCodec]
    mask_encodings: _containers.RepeatedScalarFieldContainer[MaskEncoding]
    queue_policies: _containers.RepeatedScalarFieldContainer[QueuePolicy]
    default_model: str
    time_us: int
    def __init__(self, version: _Optional[str] = ..., device: _Optional[str] = ..., precision: _Optional[str] = ..., start_time_us: _Optional[int] = ..., draining: bool = ..., sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., limits: _Optional[_Union[SessionLimits, _Mapping]] = ..., frame_codecs: _Optional[_Iterable[_Union[FrameCodec, str]]] = ..., mask_encodings: _Optional[_Iterable[_Union[MaskEncoding, str]]] = ..., queue_policies: _Optional[_Iterable[_Union[QueuePolicy, str]]] = ..., default_model: _Optional[str] = ..., time_us: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token", "total", "time_us")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    total: int
    time_us: int
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total: _Optional[int] = ..., time_us: _Optional[int] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "camera_id", "model", "state", "start_time_us", "frame_size", "fps", "latency_p50_us", "latency_p99_us", "block_drop_rate", "block_budget", "agreement", "frames_received", "frames_ok", "frames_dropped", "frames_invalid", "queue_policy", "weight", "identity", "max_delay_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_US_FIELD_NUMBER: _ClassVar[int]
    FRAME_SIZE_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_US_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_US_FIELD_NUMBER: _ClassVar[int]
    BLOCK_DROP_RATE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BUDGET_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_OK_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_INVALID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POLICY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    camera_id: str
    model: str
    state: SessionState
    start_time_us: int
    frame_size: Size
    fps: float
    latency_p50_us: int
    latency_p99_us: int
    block_drop_rate: float
    block_budget: float
    agreement: float
    frames_received: int
    frames_ok: int
    frames_dropped: int
    frames_invalid: int
    queue_policy: QueuePolicy
    weight: float
    identity: str
    max_delay_ms: int
    def __init__(self, session_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., model: _Optional[str] = ..., state: _Optional[_Union[SessionState, str]] = ..., start_time_us: _Optional[int] = ..., frame_size: _Optional[_Union[Size, _Mapping]] = ..., fps: _Optional[float] = ..., latency_p50_us: _Optional[int] = ..., latency_p99_us: _Optional[int] = ..., block_drop_rate: _Optional[float] = ..., block_budget: _Optional[float] = ..., agreement: _Optional[float] = ..., frames_received: _Optional[int] = ..., frames_ok: _Optional[int] = ..., frames_dropped: _Optional[int] = ..., frames_invalid: _Optional[int] = ..., queue_policy: _Optional[_Union[QueuePolicy, str]] = ..., weight: _Optional[float] = ..., identity: _Optional[str] = ..., max_delay_ms: _Optional[int] = ...) -> None: ...
