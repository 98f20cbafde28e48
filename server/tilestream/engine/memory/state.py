"""What the engine remembers of one session between two frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilestream.engine.device import upload
from tilestream.engine.gates.calibration import RiskCalibration
from tilestream.engine.gates.cells import cell_features
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.feature_store import FeatureStore
from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.memory.row_map import RowMap
from tilestream.engine.memory.scores import KeyScores
from tilestream.engine.motion.distortion import DistortionTracker
from tilestream.engine.motion.estimators import Motion, chained, thumbnail_scale
from tilestream.messages import Float32Array, UInt8Array

Pages = npt.NDArray[np.int64]

MAX_CREDIT = 1.0
"""Key frames: what a quiet scene saves up, and what a busy one may borrow, at most."""


class SessionState:
    """One session. ``planes``: 1 for labels, 2 for labels and confidence.

    ``ready``: whether the labels, and the features if it keeps any, are those of an earlier frame.
    ``credit``: key frames' worth of budget saved up, ``phase`` at first; the first frame, which has nothing
    to reuse, is not charged. ``scores``: of its latest whole frame, where they are kept; ``looks``: whole
    frames of one scene that they are the mean of, 0 once something has moved. ``flow``: of the latest frame;
    the next one's motion is expected to be like it.
    """

    def __init__(
        self, program: TileProgram, height: int, width: int, planes: int, phase: float = 0.0
    ) -> None:
        self._program = program
        self.size = (height, width)
        self.bins = program.bins(height, width)
        self.scale = thumbnail_scale(height, width)
        self.labels = LabelMap(height, width, program.bin_size, planes)
        self.tracker = DistortionTracker(program.bin_size, self.bins, self.scale)
        self.luma: UInt8Array | None = None
        self.flow: Float32Array | None = None
        self.scores: KeyScores | None = None
        self.looks = 0
        self.frames_since_key = 0
        self.credit = phase
        self._charged = False
        self.calibration = RiskCalibration()
        self.owner = -1
        self.ready = False
        self._maps: dict[int, RowMap] = {}
        self._put_off: Motion | None = None  # what the references have not followed yet
        self.new_pages: dict[int, Pages] = {}

    def cells(self, motion: Motion) -> Float32Array:
        """What a learned gate looks at of a new frame, when ``tracker`` has advanced and labels have not."""
        assert self.luma is not None
        classes = self._program.nodes[self._program.output].channels
        return cell_features(self.labels.plane(0), classes, self.tracker, motion, self.luma)

    def spend(self, budget: float, share: float) -> None:
        """Account for a frame that was allowed ``budget`` and computed ``share`` of its units."""
        if self._charged:
            self.credit = min(max(self.credit + budget - share, -MAX_CREDIT), MAX_CREDIT)
        self._charged = True

    @property
    def tiles(self) -> int:
        """Tiles of every map."""
        return self.bins[0] * self.bins[1]

    @property
    def maps(self) -> dict[int, RowMap]:
        """By stride, where the features lie now; empty while there are none.

        Motion is followed when this is asked for, and then in one go: frames of which nothing is computed
        ask for no feature.
        """
        if self._put_off is not None:
            motion, self._put_off = self._put_off, None
            for stride, rows in self._maps.items():
                rows.move(motion.at_stride(stride, rows.height, rows.width))
        return self._maps

    def lose_features(self) -> None:
        """The features are gone: the next frame has to be a key frame."""
        self._maps, self._put_off, self.luma, self.ready = {}, None, None, False
        self.scores, self.flow, self.looks = None, None, 0

    def start(self, pages: dict[int, Pages], zero_rows: dict[int, int]) -> None:
        """A key frame lies in these pages, tile by tile in raster order."""
        height, width = self._program.padded(*self.size)
        every_y, every_x = (index.ravel() for index in np.indices(self.bins))
        self._maps, self._put_off = {}, None
        for stride, own in pages.items():
            self._maps[stride] = RowMap(height // stride, width // stride, zero_rows[stride])
            self._maps[stride].place(self._program.tile(stride), every_y, every_x, own)

    def move(self, motion: Motion) -> None:
        """Let labels follow the motion, and references as soon as they are asked for."""
        if not motion.flow.any():
            return
        self.labels.move(motion.flow, motion.scale)
        if self._maps:
            earlier = None if self._put_off is None else self._put_off.flow
            self._put_off = Motion(chained(motion.flow, earlier), motion.occluded, motion.scale)

    def place(self, stride: int, y: Pages, x: Pages) -> None:
        """The tiles at rows ``y`` and columns ``x`` are computed anew, into the pages taken for them."""
        self.maps[stride].place(self._program.tile(stride), y, x, self.new_pages[stride])

    def collect_garbage(self, store: FeatureStore, pages_per_tile: float) -> None:
        """Free pages that nothing refers to any more; copy features together if they are spread thin."""
        for stride, rows in self.maps.items():
            pool, tile = store.pools[stride], self._program.tile(stride)
            count = pool.keep_only(self.owner, rows.live_pages(tile))
            if count > pages_per_tile * self.tiles:
                self._gather_together(store, stride)

    def _gather_together(self, store: FeatureStore, stride: int) -> None:
        """Copy all that is referred to into as few pages as it needs; not now, if there are none free."""
        pool, tile, rows = store.pools[stride], self._program.tile(stride), self.maps[stride]
        pages = pool.allocate(self.owner, self.tiles)
        if pages is None:
            return
        old = rows.inner.copy()
        every_y, every_x = (index.ravel() for index in np.indices(self.bins))
        remainder = rows.remainder
        rows.remainder = None
        rows.place(tile, every_y, every_x, pages)
        rows.remainder = remainder
        source = upload(old.ravel(), store.device)
        target = upload(rows.inner.ravel().astype(np.int64), store.device)
        for node in self._program.kept:
            if node.stride == stride:
                values = store.maps[node.name]
                values.index_copy_(
                    0, target.to(values.device), values.index_select(0, source.to(values.device))
                )
        pool.keep_only(self.owner, rows.live_pages(tile))
