"""A frame on its way through the reuse engine: what is asked, what is decided, what is answered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilestream.engine.gates.agreement import Agreement, compare
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.state import SessionState
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.motion.estimators import Motion
from tilestream.engine.tiles.masks import Mask, stage_masks
from tilestream.messages import BinAccount, Float32Array, FrameStats, UInt8Array


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """One frame of one session. ``image``: uint8 [H, W, 3] RGB.

    ``keep``: forces what is computed: all, nothing, bool [bins_h, bins_w] or [units, bins_h, bins_w]. Where
    the engine's gate reuses no features, anything but nothing means all.
    ``retain``: False for a frame that no later one will reuse: it is computed in full, and the session's
    features are dropped, which saves the time to look after them. ``phase``: see ``SessionSpec``, ``limit``:
    see ``FrameJob``.
    """

    session_id: str
    image: UInt8Array
    key: bool = False
    budget: float = 1.0
    keep: bool | Mask | None = None
    want_confidence: bool = False
    retain: bool = True
    limit: float = 1.0
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """``labels``: uint8 [H, W]; ``confidence`` likewise, if it was asked for."""

    labels: UInt8Array
    stats: FrameStats
    bins: BinAccount
    confidence: UInt8Array | None = None


@dataclass(slots=True)
class FrameInFlight:
    """A request on its way through a step.

    ``moved``: uint8 [H, W], the labels that it would have without computing anything, where some of them are
    computed and can tell. ``agreement``: what they told. ``risk``: what the gate had expected.
    """

    request: FrameRequest
    state: SessionState
    key: bool
    keep: Mask
    motion: Motion | None = None
    signals: BinSignals | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    moved: UInt8Array | None = None
    agreement: Agreement | None = None
    risk: Float32Array | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it shows what its session's frame before showed, moved."""
        return self.motion is not None and self.signals is not None and not self.signals.scene_cut


def frame_answer(program: TileProgram, frame: FrameInFlight) -> FrameAnswer:
    """The answer to a frame whose labels are in place."""
    state, keep, signals = frame.state, frame.keep, frame.signals
    compared = signals is not None and not frame.key
    zeros = np.zeros(state.bins, dtype=np.float32)
    distortion = signals.distortion if signals is not None and compared else zeros
    age = signals.age if signals is not None and compared else zeros
    masks = stage_masks(program, keep)
    labels = state.labels.plane(0)
    if frame.moved is not None and signals is not None:
        # the last stage makes the labels
        frame.agreement = compare(frame.moved, labels, masks[-1], signals.age, program.bin_size)
    agreement = frame.agreement
    stats = FrameStats(
        key_frame=frame.key,
        units_computed=int(keep.sum()),
        units_total=keep.size,
        mean_distortion=float(distortion.mean()),
        budget=frame.request.budget,
        macs=sum(s.macs * int(mask.sum()) for s, mask in zip(program.stages, masks, strict=True)),
        stage_seconds=frame.seconds,
        units_by_stride=_units_by_stride(program, keep),
        agreement=None if agreement is None else agreement.share,
        agreement_pixels=0 if agreement is None else agreement.compared,
        agreement_age=0.0 if agreement is None else agreement.age,
    )
    account = BinAccount(
        bin_size=program.bin_size,
        width=state.size[1],
        height=state.size[0],
        units_per_bin=len(program.units),
        units_computed=keep.sum(axis=0).astype(np.uint16),
        distortion=distortion.astype(np.float32),
        age=np.minimum(np.rint(np.where(keep.any(axis=0), 0, age)), 65535).astype(np.uint16),
    )
    confidence = state.labels.plane(1) if frame.request.want_confidence else None
    return FrameAnswer(labels, stats, account, confidence)


def _units_by_stride(program: TileProgram, keep: Mask) -> dict[int, tuple[int, int]]:
    """Block units computed and all of them, by the stride of the units' outputs."""
    counts: dict[int, tuple[int, int]] = {}
    kept = keep.sum(axis=(1, 2)).tolist()
    for unit, bins in zip(program.units, kept, strict=True):
        stride = program.nodes[unit.name].stride
        computed, total = counts.get(stride, (0, 0))
        counts[stride] = computed + bins, total + keep[0].size
    return counts


def forced_units(keep: bool | Mask, everything: Mask) -> Mask:
    """What a request forces, for every unit and bin."""
    mask = np.asarray(keep)
    if mask.dtype != np.bool_ or mask.shape not in ((), everything.shape[1:], everything.shape):
        units, rows, columns = everything.shape
        raise ValueError(
            f"keep: {mask.dtype} {list(mask.shape)}; has to be a bool, bool [{rows}, {columns}] for bins "
            f"or bool [{units}, {rows}, {columns}] for units"
        )
    return np.array(np.broadcast_to(mask, everything.shape))
