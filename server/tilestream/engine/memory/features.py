"""Where one session's features lie in the store: references by stride, and the pages that hold them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.feature_store import FeatureStore, Pages
from tilestream.engine.memory.row_map import RowMap
from tilestream.engine.motion.flow import Motion
from tilestream.engine.motion.warp import chained, resampled


class SessionFeatures:
    """A session's references. ``owner``: its number in the store. ``bins``: rows and columns of its frames.

    ``new_pages``: by stride, taken for what is computed of the present frame.
    """

    def __init__(self, program: TileProgram, size: tuple[int, int], owner: int) -> None:
        self._program, self._size = program, size
        self.bins = program.bins(*size)
        self.owner = owner
        self._maps: dict[int, RowMap] = {}
        self._deferred: Motion | None = None  # what the references have not followed yet
        self.new_pages: dict[int, Pages] = {}

    @property
    def tiles(self) -> int:
        """Tiles of every map."""
        return self.bins[0] * self.bins[1]

    @property
    def stored(self) -> bool:
        """Whether there are any, whether or not they have followed the motion yet."""
        return bool(self._maps)

    @property
    def maps(self) -> dict[int, RowMap]:
        """By stride, where the features lie now; empty while there are none.

        Motion is followed when this is asked for, and then in one go: frames of which nothing is computed
        ask for no feature.
        """
        if self._deferred is not None:
            motion, self._deferred = self._deferred, None
            for stride, rows in self._maps.items():
                rows.move(motion.at_stride(stride, rows.height, rows.width).numpy()[0])
        return self._maps

    def moved(self, displacement: Tensor | None, scale: int) -> SessionFeatures:
        """References of their own, for another frame of the session: they follow a motion of these.

        ``displacement``: float32 [h, w, 2] from that frame, on a grid ``scale`` times as coarse as the image.
        """
        other = SessionFeatures(self._program, self._size, self.owner)
        for stride, rows in self.maps.items():
            other._maps[stride] = rows.copy()
            if displacement is not None:
                there = resampled(displacement[None], scale, stride, rows.height, rows.width)
                other._maps[stride].move(there.numpy()[0] * np.float32(scale / stride))
        return other

    def start(self, pages: dict[int, Pages], zero_rows: dict[int, int]) -> None:
        """A whole frame lies in these pages, tile by tile in raster order."""
        height, width = self._program.padded(*self._size)
        every_y, every_x = self._every_tile()
        self._maps, self._deferred = {}, None
        for stride, own in pages.items():
            self._maps[stride] = RowMap(height // stride, width // stride, zero_rows[stride])
            self._maps[stride].place(self._program.tile(stride), every_y, every_x, own)

    def move(self, motion: Motion) -> None:
        """Let references follow the motion of a frame, a batch of one, as soon as they are asked for."""
        earlier = None if self._deferred is None else self._deferred.flow
        self._deferred = Motion(chained(motion.flow, earlier), motion.occluded, motion.scale)

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
        old, remainder = rows.inner.copy(), rows.remainder
        rows.remainder = None
        rows.place(tile, *self._every_tile(), pages)
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

    def _every_tile(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows and columns of all tiles in raster order."""
        y, x = np.indices(self.bins)
        return y.ravel(), x.ravel()
