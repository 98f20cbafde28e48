"""What a session keeps of frames whose labels wait for those of a frame after them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor

from tilestream.engine.memory.labels import LabelMap
from tilestream.messages import Outcome


@dataclass(frozen=True, slots=True)
class Held:
    """A frame that waits. ``outcome``: its answer, but for the labels. ``captured``: see ``messages.Frame``.

    ``luma``: uint8 [h, w], its thumbnail. ``displacement``: float32 [h, w, 2] from it to the source before
    it, ``flow``: to the frame before it, both in the thumbnail's pixels; None where nothing has moved.
    ``pixels``: uint8 [H, W, 3] where bins of it may yet be computed.
    """

    outcome: Outcome
    captured: float
    luma: Tensor
    displacement: Tensor | None
    flow: Tensor | None
    pixels: Tensor | None


class Gap:
    """Frames since a session's latest source, of which nothing was computed; the oldest first.

    ``luma``: uint8 [h, w], thumbnail of that source. ``planes``: its maps, uint8 [H, W], once those of the
    next one have taken their place in the session's :class:`LabelMap`; until then None. ``gone``: how many
    frames after that source have not waited. ``latest``: when the session's latest frame was captured,
    ``interval``: how long after the one before; seconds.
    """

    def __init__(self) -> None:
        self.frames: deque[Held] = deque()
        self.luma: Tensor | None = None
        self.planes: list[Tensor] | None = None
        self.gone = 0
        self.latest: float | None = None
        self.interval = 0.0

    def came(self, captured: float) -> None:
        """Another frame of the session is here."""
        if self.latest is not None:
            self.interval = max(0.0, captured - self.latest)
        self.latest = captured

    def end(self, labels: LabelMap) -> None:
        """There are new labels: what waits keeps those of the source before it."""
        if self.frames:
            self.planes = [plane.clone() for plane in labels.as_computed()]

    def begin(self, luma: Tensor | None) -> None:
        """All that waited has its labels; ``luma`` is the new source's thumbnail."""
        self.frames.clear()
        self.planes, self.luma, self.gone = None, luma, 0

    def pop(self) -> Held:
        """The oldest one waits no longer."""
        self.gone += 1
        return self.frames.popleft()

    def of_source(self, labels: LabelMap) -> list[Tensor]:
        """The maps of the source before the frames that wait."""
        return labels.as_computed() if self.planes is None else self.planes
