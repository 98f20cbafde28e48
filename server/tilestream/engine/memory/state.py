"""What the engine remembers of one session between two frames."""

from __future__ import annotations

from torch import Tensor

from tilestream.engine.gates.calibration import RiskCalibration
from tilestream.engine.memory.features import SessionFeatures
from tilestream.engine.memory.gap import Gap
from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.memory.scores import SmoothedScores
from tilestream.engine.memory.sources import Sources
from tilestream.scheduling.credit import Credit


class SessionState:
    """One session. ``size``: height and width of its frames. ``labels``: the answer to its latest one.

    ``ready``: whether the labels, and the features if it keeps any, are those of an earlier frame.
    ``luma``: uint8 [h, w], the thumbnail that the next frame is compared with. ``flow``: float32 [h, w, 2] of
    the latest frame; the next one's motion is expected to be like it. ``distortion``: see
    :class:`~tilestream.engine.motion.distortion.Distortion`. ``scores``: of its latest whole frame, where
    they are kept; ``averaged``: whole frames of one scene that they are the mean of, 0 once something has
    moved. ``features``: where its gate reuses any;
    ``sources``: where it refreshes bins. ``gap``: where labels wait for those of later frames.
    """

    def __init__(
        self,
        labels: LabelMap,
        size: tuple[int, int],
        distortion: Tensor,
        phase: float = 0.0,
        sources: Sources | None = None,
        gap: Gap | None = None,
    ) -> None:
        self.size = size
        self.labels = labels
        self.distortion = distortion
        self.luma: Tensor | None = None
        self.flow: Tensor | None = None
        self.scores: SmoothedScores | None = None
        self.averaged = 0
        self.since_whole = self.since_source = self.refreshed = 0
        self.credit = Credit(phase)
        self.calibration = RiskCalibration()
        self.ready = False
        self.features: SessionFeatures | None = None
        self.sources, self.gap = sources, gap

    @property
    def looks_ahead(self) -> bool:
        """Whether labels may wait for those of later frames."""
        return self.gap is not None

    def invalidate(self) -> None:
        """What could be reused is gone: the next frame has to be computed in full."""
        self.luma, self.flow, self.scores, self.averaged, self.ready = None, None, None, 0, False
        self.features = None
        if self.sources is not None:
            self.sources = Sources()
