"""What a session keeps of its *sources*: the last two frames of which anything was computed."""

from __future__ import annotations

from torch import Tensor

from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.motion.warp import chained


class Sources:
    """Beside the labels of the latest source, which are the session's own, see :class:`LabelMap`.

    ``luma``: uint8 [h, w], thumbnail of the latest one. ``labels``: uint8 [H, W], of the one before it; None
    where there was none, or a scene cut lies between.
    """

    def __init__(self) -> None:
        self.luma: Tensor | None = None
        self.labels: Tensor | None = None
        self._between: Tensor | None = None  # displacement from the latest source to the one before
        self._to_whole: Tensor | None = None  # and to the latest whole frame

    def begin(self, luma: Tensor, labels: LabelMap, *, whole: bool, first: bool) -> None:
        """A frame becomes the latest source; ``labels`` are still those that were warped to it.

        ``whole``: all of it is computed. ``first``: it shows something else than those before it.
        """
        to_whole = None if whole else self.since_whole(labels)
        self._between = None if first else labels.displacement
        self.labels = None if first or self.luma is None else labels.as_computed()[0].clone()
        self._to_whole = to_whole
        self.luma = luma

    def since_whole(self, labels: LabelMap) -> Tensor | None:
        """Displacement from now to the latest whole frame, float32 [h, w, 2] in the thumbnail's pixels."""
        return _composed(labels.displacement, self._to_whole)

    def since_earlier(self, displacement: Tensor | None) -> Tensor | None:
        """The same to the source before the latest, to which it is ``displacement`` from now."""
        return _composed(displacement, self._between)


def _composed(displacement: Tensor | None, further: Tensor | None) -> Tensor | None:
    if displacement is None:
        return further
    return chained(displacement[None], None if further is None else [further])[0]
