"""What frontend and engine say to each other: plain dataclasses and arrays.

The frontend (``api``, ``sessions``) and the engine (``engine``) meet only here, so that the
engine can live in a thread of the server or in a process of its own without either side
noticing. Nothing in this module may import torch or grpc.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tilestream.label_runs import LabelRuns

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

STAGES = ("decode", "motion", "gate", "tables", "backbone", "head")
"""Of an engine's step, in their order: what ``FrameStats.stage_seconds`` may tell of."""


MOST_HELD = 32
"""Frames of a session whose labels wait for later ones at a time; with more, the oldest waits no longer."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as clients see it."""

    name: str
    description: str
    classes: tuple[str, ...]  # class i is label value i
    palette: tuple[tuple[int, int, int], ...]  # RGB 0..255, one per class
    stride: int  # frames are padded to a multiple of this before they reach the network
    parameters: int
    reference_miou: float | None = None  # single frame, on the data set its model card names
    gate: str = ""  # what decides what is computed, by name, where an engine serves it
    looks_ahead: bool = False  # labels of its sessions may wait for later frames, see ``SessionSpec``


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """All that scheduler and engine have to know of a session, told once, before its first frame.

    ``weight``: its share of the engine's time relative to the others', above 0. ``confidence``, ``bins``:
    what its outcomes have beside labels. ``phase``: 0..1, how much of a whole frame's budget it begins with;
    sessions that begin together do not all come to their next whole frame at the same time if their phases
    differ. ``retain``: what later frames could reuse is kept even where a frame's budget is 1, for callers
    that decide themselves what is computed of a frame. ``owner``: whose it is; owners share the engine's time
    first, by ``owner_weight``, and the sessions of an owner what that gets. ``refreshes``: its gate computes
    bins between whole frames, in the rhythm of ``scheduling.rhythm``. ``max_delay``: seconds on the clock of
    ``Frame.captured`` that labels may wait for frames that come after theirs.
    """

    session_id: str
    model: str
    weight: float = 1.0
    confidence: bool = False
    bins: bool = False
    phase: float = 0.0
    retain: bool = False
    owner: str = ""
    owner_weight: float = 1.0
    refreshes: bool = False
    max_delay: float = 0.0


class Codec(Enum):
    """How a camera encoded a picture."""

    JPEG = "jpeg"
    H264 = "h264"
    H265 = "h265"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What a camera sent, as it was sent or decoded: either ``data`` or ``pixels`` is there.

    ``width``, ``height``: as it was sent. ``compute``: (width, height) that the network computes at.
    ``pixels``: uint8 [H, W, 3] RGB at compute size. ``data``: encoded with ``codec``.
    """

    width: int
    height: int
    compute: tuple[int, int]
    pixels: UInt8Array | None = None
    codec: Codec = Codec.JPEG
    data: bytes | memoryview = b""

    @property
    def megapixels(self) -> float:
        """Of the compute size: what its price goes by."""
        return self.compute[0] * self.compute[1] / 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of one session, from the pipeline through the scheduler to the engine.

    ``whole``: the client asks for all of it to be computed. ``budget``: the share (0..1] of block units that
    its session asks for. ``submitted``: when it was handed to the scheduler, from which deadlines count,
    monotonic seconds. ``droppable``: under overload it may be dropped for a later frame of its session.
    ``captured``: seconds on its camera's clock, whatever that counts from.
    ``bins``: its outcome has them, whatever its session asks for.
    """

    session_id: str
    frame_id: int
    picture: Picture
    whole: bool = False
    budget: float = 1.0
    submitted: float = 0.0
    droppable: bool = False
    captured: float = 0.0
    bins: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What the scheduler allows a frame.

    ``budget``: the share (0..1] of block units it may compute, or leave to its session's later ones.
    ``limit``: the share (0..1) that it may compute now at most, whatever its session has saved up; a frame
    that has nothing to reuse is computed in full all the same.
    """

    budget: float = 1.0
    limit: float = 1.0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What the engine computes in one step: at most one frame of each session.

    ``shed``: frames that will not be computed, since the server cannot keep up. ``due``: sessions whose
    frames up to an id cannot wait any longer for frames after them.
    """

    frames: tuple[tuple[Frame, Grant], ...]
    shed: tuple[Frame, ...] = ()
    due: tuple[tuple[str, int], ...] = ()


class DropReason(Enum):
    """Why a frame was not computed; the API's enum of the same name has the same members."""

    QUEUE_FULL = "queue_full"
    SUPERSEDED = "superseded"
    OVERLOAD = "overload"
    ENGINE_ERROR = "engine_error"
    SHUTDOWN = "shutdown"
    QUOTA = "quota"


class InvalidReason(Enum):
    """Why a frame cannot be used; the API's enum of the same name has the same members."""

    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_JPEG = "not_jpeg"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    NO_KEY_UNIT = "no_key_unit"
    TOO_COSTLY = "too_costly"


class FailureKind(Enum):
    """Whose fault it is that a frame has no labels."""

    DROPPED = "dropped"  # not the frame's: it may be fine
    INVALID = "invalid"  # the frame's: sending it again will not help


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a frame has no labels, whoever found that out. ``detail`` is fit for the client."""

    kind: FailureKind
    reason: DropReason | InvalidReason
    detail: str = ""

    @classmethod
    def dropped(cls, reason: DropReason, detail: str = "") -> Failure:
        """Of a frame that was not computed."""
        return cls(FailureKind.DROPPED, reason, detail)

    @classmethod
    def invalid(cls, reason: InvalidReason, detail: str = "") -> Failure:
        """Of a frame that cannot be used."""
        return cls(FailureKind.INVALID, reason, detail)


@dataclass(frozen=True, slots=True)
class BinAccount:
    """Per-bin account of one frame; every array is [bins_h, bins_w]."""

    bin_size: int  # pixels of the computed image
    width: int  # pixels of the computed image; the last column and row of bins may reach beyond it
    height: int
    units_per_bin: int  # block units that every bin has
    units_computed: npt.NDArray[np.uint16]
    distortion: Float32Array
    age: npt.NDArray[np.uint16]  # frames since the bin was last computed


@dataclass(frozen=True, slots=True)
class FrameStats:
    """What a frame cost and what was reused."""

    whole: bool  # computed in full
    units_computed: int  # residual block x bin
    units_total: int
    mean_distortion: float = 0.0
    budget: float = 1.0
    macs: int = 0  # multiply-accumulates that were run for this frame
    stage_seconds: dict[str, float] = field(default_factory=dict)  # this frame's share, see STAGES
    # Block units computed and all of them, by the stride of the map they make.
    units_by_stride: dict[int, tuple[int, int]] = field(default_factory=dict)
    # Reuse agreement: of the pixels that were computed anew, the share that kept their warped label, 0..1.
    # None: none were that had one. How many pixels, and for how many frames their labels had been warped.
    agreement: float | None = None
    agreement_pixels: int = 0
    agreement_age: float = 0.0
    bins_refreshed: int = 0  # bins of which anything was computed in a frame that is not whole
    # Frames since the one that labels were warped from, 0: their own; frames until the one after it that they
    # were warped from, too; and for which share of the pixels, 0..1. None: there is no such frame.
    since_source: int | None = None
    until_source: int | None = None
    future_share: float = 0.0

    @property
    def refresh_changed(self) -> float | None:
        """Of the pixels of the refreshed bins, the share that got another label, 0..1; None: cannot tell."""
        known = self.bins_refreshed > 0 and self.agreement is not None
        return 1.0 - (self.agreement or 0.0) if known else None

    @property
    def key_frame(self) -> bool:
        """``whole``, as the API calls it."""
        return self.whole

    @property
    def distortion(self) -> float:
        """Mean over the bins, luma steps 0..255; 0 for a whole frame."""
        return self.mean_distortion

    @property
    def pixels_changed(self) -> float:
        """How many of ``agreement_pixels`` got another label."""
        return self.agreement_pixels * (1.0 - (self.agreement or 0.0))

    @property
    def block_drop_rate(self) -> float:
        """Dropped block units / all of them, 0..1."""
        return 1.0 - self.units_computed / self.units_total if self.units_total else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a frame in the engine: labels, or a failure that says why there are none.

    Neither: it was computed, and its labels come with a later step, in another outcome of the frame.
    ``labels``: at compute size, uint8 [H, W] or runs, as the engine has them; ``label_runs.label_map`` gives
    a map of either. ``confidence``: uint8 [H, W], 0..255 = softmax margin of best over second class; only if
    the session asks for it, and so are ``bins``.
    """

    session_id: str
    frame_id: int
    labels: UInt8Array | LabelRuns | None = None
    stats: FrameStats | None = None
    confidence: UInt8Array | None = None
    bins: BinAccount | None = None
    failure: Failure | None = None

    @classmethod
    def failed(cls, frame: Frame, why: str) -> Outcome:
        """Of a frame that the engine did not compute; ``why`` is fit for the client."""
        failure = Failure.dropped(DropReason.ENGINE_ERROR, why)
        return cls(frame.session_id, frame.frame_id, failure=failure)


@dataclass(frozen=True, slots=True)
class EngineReport:
    """How the engine is doing after a step. None: the device does not tell.

    ``tiles``: computed in that step, counted once however many layers were run on them. ``evictions``: since
    the engine was made. A page is counted once per stride that it is a page of. ``restarts``: how often the
    engine died and all sessions lost their features.
    """

    device: str = "cpu"
    tiles: int = 0
    evictions: int = 0
    store_bytes: int = 0
    store_limit_bytes: int = 0
    store_pages: int = 0
    store_limit_pages: int = 0
    device_memory_bytes: int | None = None
    device_memory_limit_bytes: int | None = None
    device_utilisation: float | None = None  # 0..1
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine has to offer; the first model is the default.

    ``device``: a name such as "cpu" or "cuda:0". ``precision``: it works in fp32, bf16 or fp16. ``takes``:
    codecs that it decodes itself; it takes pixels of all pictures, and wants them of those of other codecs.
    """

    models: tuple[ModelInfo, ...]
    device: str
    precision: str
    takes: tuple[Codec, ...] = ()


class EngineError(Exception):
    """The engine cannot do what was asked; the message is fit for a client."""


class EngineLost(Exception):  # noqa: N818 (the name says it)
    """The engine is gone and will not come back."""


class Engine(Protocol):
    """The one interface between frontend and engine. Calls come from one thread at a time."""

    @property
    def info(self) -> EngineInfo:
        """What it has to offer; always the same."""

    def open(self, spec: SessionSpec) -> None:
        """Prepare state for a session. Raises :class:`EngineError` if that cannot be had."""

    def step(self, plan: StepPlan) -> list[Outcome]:
        """Compute a plan: one outcome per frame, in the order of the frames. Does not raise for a bad one.

        Behind these there may be outcomes of frames of earlier steps whose labels were to come later, among
        them all that are ``due``. A frame that has its labels leaves none of its session's before it waiting.
        Raises :class:`EngineError` where all of its frames are lost, :class:`EngineLost` where all is.
        """

    def report(self) -> EngineReport:
        """How it is doing after the latest step. Cheap."""

    def release(self, session_id: str) -> None:
        """Forget a session. Idempotent."""

    def check_health(self) -> None:
        """Put right what broke; called now and then while there is nothing to do. Raises EngineLost."""

    def close(self) -> None:
        """Free the device. Idempotent."""
