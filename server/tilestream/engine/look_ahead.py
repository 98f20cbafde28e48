"""Frames whose labels wait for the next whole frame, so that they come from both sides.

Between two whole frames nothing is computed as frames arrive. The one that closes the gap gives all of them
their labels; where a gate refreshes bins, those in which the sides disagree most are computed first in the
frame in the middle, which then is a side for those in the middle of both halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.arrays import Mask, covered_sums
from tilestream.engine.both_sides import Joined, Side, join
from tilestream.engine.frame import FrameInFlight
from tilestream.engine.memory.features import SessionFeatures
from tilestream.engine.memory.gap import Gap, Held
from tilestream.engine.memory.labels import looked_up
from tilestream.engine.memory.state import SessionState
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.motion.track import Track
from tilestream.messages import MOST_HELD, Outcome, UInt8Array
from tilestream.scheduling.rhythm import shares_ahead

_ROUNDING = 1e-6  # seconds


@dataclass(slots=True)
class Refreshed:
    """A frame of a gap of which bins are computed when the gap is closed."""

    gap: ClosedGap
    index: int
    joined: Joined
    chosen: Mask  # bool [bins_h, bins_w]


Refresh = Callable[[Sequence[Refreshed]], None]
"""Computes what is chosen of each, and has the frames of :class:`ClosedGap` take what is believed of it."""


@dataclass(slots=True)
class ClosedGap:
    """A session's frames between two whole ones: 0 is the one before, ``last`` the one after.

    By frame: ``lumas``, the thumbnails uint8 [h, w]; ``planes``, maps uint8 [H, W] as they become known;
    ``features``, those that there are; ``outcomes``, of those between. ``gone``: frames after the one before
    that have not waited. ``ends``: pairs of frames with maps, none between them.
    """

    closing: FrameInFlight
    held: list[Held]
    lumas: list[Tensor]
    track: Track
    planes: dict[int, list[Tensor]]
    gone: int = 0
    features: dict[int, SessionFeatures] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, closing: FrameInFlight, gap: Gap) -> ClosedGap:
        """Of the session of a whole frame that goes on from what is held."""
        held, state = list(gap.frames), closing.state
        if gap.luma is None or closing.luma is None:
            raise RuntimeError("a frame that others are compared with has no thumbnail")
        lumas = [gap.luma, *(each.luma for each in held), closing.luma]
        last = None if closing.motion is None else closing.motion.flow[0]
        planes = {0: gap.of_source(state.labels), len(held) + 1: state.labels.as_computed()}
        track = Track([held[0].displacement, *(each.flow for each in held[1:]), last])
        features = {} if state.features is None or not state.features.stored else {0: state.features}
        return cls(closing, held, lumas, track, planes, gap.gone, features, ends=[(0, len(held) + 1)])

    @property
    def last(self) -> int:
        return len(self.held) + 1

    @property
    def scale(self) -> int:
        return thumbnail_scale(*self.closing.state.size)

    def joined(self, index: int, ends: tuple[int, int]) -> Joined:
        """The maps of a frame from both ``ends``."""
        before, after = (self._side(index, end) for end in ends)
        return join(before, after, self.lumas[index], self.scale)

    def _side(self, index: int, end: int) -> Side:
        there, frames = self.track.displacement(index, end), self.frames(index, end)
        return Side(self.planes[end], self.lumas[end], there, frames)

    def frames(self, index: int, end: int) -> int:
        """How far away one frame is from another."""
        return abs(end - index) + (self.gone if 0 in (index, end) else 0)

    def take(self, index: int, ends: tuple[int, int], joined: Joined) -> None:
        """These are a frame's maps."""
        held = self.held[index - 1]
        stats = held.outcome.stats and replace(
            held.outcome.stats,
            since_source=self.frames(index, ends[0]),
            until_source=self.frames(index, ends[1]),
            future_share=joined.future_share,
        )
        self.outcomes[index] = answered(replace(held.outcome, stats=stats), joined.planes)


class LookAhead:
    """Holds frames and gives them their labels. ``refreshes``: whether bins of them are computed then."""

    def __init__(self, bin_size: int, refreshes: bool) -> None:
        self._bin_size, self._refreshes = bin_size, refreshes

    def waits(self, frame: FrameInFlight) -> bool:
        """Whether a frame's labels come later: not while it shows what its source shows, whatever comes."""
        gap = frame.state.gap
        if gap is None or frame.whole or not frame.goes_on or frame.keep.any() or gap.luma is None:
            return False
        return bool(gap.frames) or frame.state.labels.displacement is not None

    def hold(self, frame: FrameInFlight, outcome: Outcome) -> None:
        """Its labels come later; ``outcome`` is the rest of its answer."""
        state, gap = frame.state, frame.state.gap
        if gap is None or frame.luma is None:
            raise RuntimeError("a session that does not look ahead holds a frame")
        pixels = frame.pixels.clone() if self._refreshes else None
        moved = state.labels.displacement
        gap.frames.append(Held(outcome, frame.frame.captured, frame.luma, moved, state.flow, pixels))

    def overdue(self, frame: FrameInFlight) -> list[Outcome]:
        """Answers of those in its session for which the frame after it would come too late."""
        state, gap = frame.state, frame.state.gap
        answers: list[Outcome] = []
        while gap is not None and gap.frames:
            waited = frame.frame.captured + gap.interval - gap.frames[0].captured
            if waited <= frame.spec.max_delay + _ROUNDING and len(gap.frames) < MOST_HELD:
                break
            answers.append(from_before(state, gap.pop()))
        return answers

    def due(self, state: SessionState, frame_id: int) -> list[Outcome]:
        """Answers of all that waits up to a frame, whatever comes after it."""
        gap = state.gap
        answers: list[Outcome] = []
        while gap is not None and gap.frames and gap.frames[0].outcome.frame_id <= frame_id:
            answers.append(from_before(state, gap.pop()))
        return answers

    def close(self, frames: Sequence[FrameInFlight], refresh: Refresh) -> list[Outcome]:
        """Answers of all that waits in the sessions of frames of which something was computed."""
        answers: list[Outcome] = []
        closed: list[ClosedGap] = []
        for frame in frames:
            gap = frame.state.gap
            if gap is None or not gap.frames:
                continue
            if frame.whole and frame.goes_on:
                closed.append(ClosedGap.of(frame, gap))
            else:
                answers += [from_before(frame.state, held) for held in gap.frames]
        if self._refreshes:
            self._compute_between(closed, refresh)
        for each in closed:
            answers += _rest_of(each)
        for frame in frames:
            if frame.state.gap is not None:
                frame.state.gap.begin(frame.luma)
        return answers

    def _compute_between(self, closed: list[ClosedGap], refresh: Refresh) -> None:
        """Level by level, of all sessions at once."""
        shares = {id(each): _shares(each) for each in closed}
        for level in range(max(map(len, shares.values()), default=0)):
            wanted: list[Refreshed] = []
            for each in closed:
                if level < len(shares[id(each)]):
                    wanted += self._middles(each, shares[id(each)][level])
            if wanted:
                refresh(wanted)

    def _middles(self, closed: ClosedGap, share: float) -> list[Refreshed]:
        """The frames in the middle of its parts, and of each its bins in most doubt."""
        found, ends = [], []
        for begin, end in closed.ends:
            if end - begin < 2:
                ends.append((begin, end))
                continue
            middle = (begin + end) // 2
            joined = closed.joined(middle, (begin, end))
            closed.take(middle, (begin, end), joined)
            closed.planes[middle] = [torch.from_numpy(plane) for plane in joined.planes]
            found.append(Refreshed(closed, middle, joined, self._most(joined.disputed, share)))
            ends += [(begin, middle), (middle, end)]
        closed.ends = ends
        return found

    def _most(self, disputed: UInt8Array, share: float) -> Mask:
        """Bool [bins_h, bins_w]: so many bins, those with the most disputed pixels; none without any."""
        side = self._bin_size
        rows, columns = (-(-length // side) for length in disputed.shape)
        sums = covered_sums(disputed, side, (rows, columns), np.float32).ravel()
        order = np.argsort(-sums, kind="stable")[: int(share * sums.size + 1e-6)]
        chosen = np.zeros(sums.size, dtype=np.bool_)
        chosen[order[sums[order] > 0]] = True
        return chosen.reshape(rows, columns)


def _shares(closed: ClosedGap) -> tuple[float, ...]:
    """Of the bins, that its session may have computed level by level; none where no features are left."""
    closing, gap = closed.closing, closed.closing.state.gap
    if not closed.features or gap is None:
        return ()
    frames = closing.spec.max_delay / gap.interval + 1 if gap.interval > 0 else closed.last
    return shares_ahead(closing.grant.budget, frames)


def _rest_of(closed: ClosedGap) -> list[Outcome]:
    """The answers of all of a gap, in their order."""
    for begin, end in closed.ends:
        for index in range(begin + 1, end):
            closed.take(index, (begin, end), closed.joined(index, (begin, end)))
    return [closed.outcomes[index] for index in range(1, closed.last)]


def from_before(state: SessionState, held: Held) -> Outcome:
    """The answer of a frame that gets its labels from the source before it alone."""
    planes = [] if state.gap is None else state.gap.of_source(state.labels)
    if held.displacement is not None:
        planes = looked_up(planes, held.displacement, thumbnail_scale(*state.size))
    return answered(held.outcome, [np.array(plane.numpy()) for plane in planes])


def answered(outcome: Outcome, planes: Sequence[UInt8Array]) -> Outcome:
    """The same with labels, and confidence where there is any."""
    return replace(outcome, labels=planes[0], confidence=planes[1] if len(planes) > 1 else None)
