"""A frame on its way through the engine: what is asked, seen, decided and computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from tilestream.engine.accounts import ComputedUnits, bin_account, frame_stats
from tilestream.engine.arrays import Mask
from tilestream.engine.gates.agreement import Agreement
from tilestream.engine.gates.doubt import Doubt
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.features import SessionFeatures
from tilestream.engine.memory.state import SessionState
from tilestream.engine.motion.distortion import BinSignals, Distortion
from tilestream.engine.motion.flow import Motion
from tilestream.messages import Frame, Grant, Outcome, SessionSpec


@dataclass(slots=True)
class FrameInFlight:
    """One frame in a step.

    ``pixels``: uint8 [H, W, 3] RGB. ``forced``: what is computed, whatever the gate says. Then, as the step
    finds out: ``luma``, its thumbnail, and ``reference``, what the next frame is compared with if this one is
    not computed in full, both uint8 [h, w]; what moved since the frame before and the bins' ``signals``, both
    batches of one; whether a scene ``cut`` lies between; ``keep``, bool [units, bins_h, bins_w], and
    ``masks``, what that means for every stage of the program; ``risk``: float32 [bins_h, bins_w], what the
    gate expects; ``warped``: uint8 [H, W], the labels that it would have had without computing anything,
    where some of them are computed and can tell, and ``agreement``, what they told; ``followed``: whether the
    labels of its session have followed the motion; ``doubt``, where these may be wrong, if the gate asked for
    it; ``seconds``: its share of the step's time.
    """

    frame: Frame
    grant: Grant
    spec: SessionSpec
    state: SessionState
    pixels: Tensor
    forced: Mask | None = None
    luma: Tensor | None = None
    reference: Tensor | None = None
    motion: Motion | None = None
    signals: BinSignals | None = None
    cut: bool = False
    whole: bool = False
    keep: Mask = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.bool_))
    masks: list[Mask] = field(default_factory=list)
    risk: Tensor | None = None
    warped: Tensor | None = None
    agreement: Agreement | None = None
    followed: bool = False
    doubt: Doubt | None = None
    moved_features: SessionFeatures | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def retained(self) -> bool:
        """Whether later frames may reuse anything of it."""
        return self.grant.budget < 1.0 or self.spec.retain

    @property
    def goes_on(self) -> bool:
        """Whether it shows what its session's frame before showed, moved."""
        return self.motion is not None and not self.cut

    @property
    def features(self) -> SessionFeatures:
        """What it reuses, where the gate reuses any: those of its session if nothing else is said."""
        features = self.moved_features or self.state.features
        if features is None:
            raise RuntimeError("the frame's session has no features")
        return features

    @property
    def touched(self) -> Mask:
        """The bins [bins_h, bins_w] in which anything is computed."""
        return np.asarray(self.keep.any(axis=0))

    def begin_source(self) -> None:
        """Its labels come: from now on those of its session's frames are warped from it."""
        state = self.state
        if state.gap is not None:
            state.gap.end(state.labels)
        state.since_source, state.refreshed = 0, 0 if self.whole else state.refreshed + 1
        if state.sources is not None and self.luma is not None:
            first = self.whole and not self.goes_on
            state.sources.begin(self.luma, state.labels, whole=self.whole, first=first)

    @property
    def follows(self) -> bool:
        """Whether there is a frame before it that something of it could be taken from."""
        return self.state.ready and self.state.luma is not None and not self.frame.whole


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of one size that are compared with those before them, and what was found."""

    frames: list[FrameInFlight]
    motion: Motion
    distortion: Distortion

    def of(self, which: list[int]) -> FrameBatch:
        """Some of the frames."""
        if len(which) == len(self.frames):
            return self
        frames = [self.frames[index] for index in which]
        return FrameBatch(frames, self.motion.of(which), self.distortion.of(which))


def by_size(frames: Iterable[FrameInFlight]) -> list[list[FrameInFlight]]:
    """The frames in batches of one size each."""
    groups: dict[tuple[int, ...], list[FrameInFlight]] = defaultdict(list)
    for frame in frames:
        groups[tuple(frame.pixels.shape)].append(frame)
    return list(groups.values())


def outcome_of(frame: FrameInFlight, program: TileProgram, labelled: bool = True) -> Outcome:
    """The answer to a frame that is done; ``labelled``: with its labels, unless they come later."""
    spec, labels = frame.spec, frame.state.labels
    computed = ComputedUnits.of(program, frame.keep, frame.masks)
    compared = None if frame.whole else frame.signals
    distortion = None if compared is None else compared.distortion.numpy()[0]
    age = None if compared is None else compared.age.numpy()[0]
    stats = frame_stats(
        computed,
        whole=frame.whole,
        budget=frame.grant.budget,
        distortion=distortion,
        agreement=frame.agreement,
        seconds=frame.seconds,
        since_source=frame.state.since_source,
    )
    bins = None
    if spec.bins or frame.frame.bins:
        bins = bin_account(program, frame.state.size, computed, distortion, age)
    return Outcome(
        frame.frame.session_id,
        frame.frame.frame_id,
        labels.copy(0) if labelled else None,
        stats,
        confidence=labels.copy(1) if labelled and spec.confidence else None,
        bins=bins,
    )


def forced_units(keep: bool | Mask, shape: tuple[int, int, int]) -> Mask:
    """What a caller forces, for every unit and bin: bool of ``shape`` [units, bins_h, bins_w]."""
    mask = np.asarray(keep)
    if mask.dtype != np.bool_ or mask.shape not in ((), shape[1:], shape):
        units, rows, columns = shape
        raise ValueError(
            f"keep: {mask.dtype} {list(mask.shape)}; has to be a bool, bool [{rows}, {columns}] for bins "
            f"or bool [{units}, {rows}, {columns}] for units"
        )
    return np.array(np.broadcast_to(mask, shape))
