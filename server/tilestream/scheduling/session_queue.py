"""A session as the scheduler sees it: frames that wait, service it had, what its next frame will cost."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tilestream.messages import Frame, FrameStats, Grant, SessionSpec
from tilestream.scheduling.cost_model import Work
from tilestream.scheduling.credit import Credit
from tilestream.scheduling.rhythm import Rhythm

_WHOLE = 0.97  # from this share of units on, a frame was computed as a whole
_PATIENCE = 8  # frames in a row whose whole one is deferred at most


@dataclass(slots=True)
class Share:
    """An owner of sessions. ``service``: seconds / weight that all of them had, on the owners' virtual clock.

    ``now``: the virtual clock of its sessions. ``ready``: how many of them have frames that wait.
    """

    weight: float
    service: float = 0.0
    now: float = 0.0
    sessions: int = 0
    ready: int = 0


@dataclass(slots=True)
class SessionQueue:
    """``number``: breaks ties by age. ``service``: seconds / weight that it had, on its owner's clock.

    Frames of one model cost the same per pixel.
    """

    number: int
    spec: SessionSpec
    share: Share
    service: float = 0.0
    last_done: float = float("-inf")
    frames: deque[Frame] = field(default_factory=deque)
    credit: Credit = field(init=False)  # as the engine counts it
    _kept: bool = False  # something is left of its latest frame that the next can be compared with
    _whole: bool = True  # its frames are computed as a whole or not at all
    _quiet: bool = False  # its gate let a whole frame that was due pass, as there was nothing to see
    _deferred: int = 0  # frames in a row whose whole one was deferred
    _since_source: int = 0  # frames since the latest of which anything was computed
    _refreshed: int = 0  # frames since the latest whole one of which some bins were

    def __post_init__(self) -> None:
        self.credit = Credit(self.spec.phase)

    def serve(self, seconds: float) -> None:
        """It had so much of the engine's time (less than 0: less than was thought), and so had its owner."""
        self.service += seconds / self.spec.weight
        self.share.service += seconds / self.share.weight

    def work(self, frame: Frame, budget: float) -> Work:
        """What its next frame will probably come to."""
        whole, share = True, 1.0
        if not self._bound_to_be_whole(frame, budget):
            in_full = self._whole or self.spec.refreshes
            whole = in_full and not self._quiet and self.credit.pays_for_whole(budget)
            share = float(whole) if in_full else budget
            if self.spec.refreshes and not whole:
                share = self._refresh(budget)
        return self._work(frame, budget, whole, share)

    def _refresh(self, budget: float) -> float:
        """The share of the bins that a refresh of its next frame computes, 0 where none is due."""
        if self._quiet or budget <= 0.0 or self.spec.max_delay:  # then it is done with the next whole frame
            return 0.0
        rhythm = Rhythm.of(budget)
        return rhythm.share if rhythm.due(self._since_source + 1, self._refreshed) else 0.0

    def _work(self, frame: Frame, budget: float, whole: bool, share: float) -> Work:
        compared = self._keeps(budget) and not self.starts_anew(frame)
        return Work(self.spec.model, frame.picture.megapixels, whole, share, compared)

    def may_defer(self, frame: Frame, budget: float) -> bool:
        """Whether a later frame may be computed as a whole instead of this one."""
        return not self._bound_to_be_whole(frame, budget) and self._deferred < _PATIENCE

    def starts_anew(self, frame: Frame) -> bool:
        """Whether its next frame is compared with none before it, whatever the budget."""
        return self.credit.fresh or frame.whole or not self._kept

    def _bound_to_be_whole(self, frame: Frame, budget: float) -> bool:
        return budget >= 1.0 or self.starts_anew(frame)

    def _keeps(self, budget: float) -> bool:
        return budget < 1.0 or self.spec.retain

    def withdraw(self, frame_id: int) -> bool:
        """Take a frame back. False if it does not wait here (any more)."""
        before = len(self.frames)
        self.frames = deque(frame for frame in self.frames if frame.frame_id != frame_id)
        return len(self.frames) < before

    def account(self, frame: Frame, grant: Grant, stats: FrameStats | None) -> Work | None:
        """Note what was computed of a frame. None if it failed: its session starts anew."""
        self._deferred = self._deferred + 1 if grant.limit < 1.0 else 0
        if stats is None or not stats.units_total:
            self.credit.restart()
            self._kept = False
            return None
        share = stats.units_computed / stats.units_total
        whole = stats.whole or share >= _WHOLE
        self._whole = whole or share == 0.0
        if share > 0.0 or (grant.limit >= 1.0 and self.credit.pays_for_whole(grant.budget)):
            self._quiet = share == 0.0
        self._since_source = 0 if share > 0.0 else self._since_source + 1
        self._refreshed = 0 if whole else self._refreshed + (share > 0.0)
        work = self._work(frame, grant.budget, whole, share)
        self.credit.charge(grant.budget, share)
        self._kept = self._keeps(grant.budget)
        return work
