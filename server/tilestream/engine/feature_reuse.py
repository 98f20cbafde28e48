"""Reuse of features, for gates that choose bins: pages for them, and the partial pass of all sessions."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.frame import FrameInFlight
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.feature_store import FeatureStore, Pages
from tilestream.engine.memory.features import SessionFeatures
from tilestream.engine.memory.usage import MemoryUsage
from tilestream.engine.tiles.executor import TileExecutor
from tilestream.engine.tiles.partial import PartialResult, PartialStep


class FeatureReuse:
    """What an engine has beside the common step where its gate reuses features.

    ``evict(session_id)``: called where a session has to give way to others; has to call :meth:`release`.
    ``pages_per_tile``: when a session's references are spread over more pages than this per tile, its
    features are copied together. ``clock``: seconds.
    """

    def __init__(
        self,
        program: TileProgram,
        store_bytes: int,
        normalize: Normalizer,
        evict: Callable[[str], None],
        pages_per_tile: float,
        clock: Callable[[], float],
    ) -> None:
        device, dtype = normalize.device, normalize.dtype
        self._program, self._evict, self._pages_per_tile = program, evict, pages_per_tile
        self.store = FeatureStore(program, store_bytes, device, dtype)
        self._partial = PartialStep(TileExecutor(program, device, dtype), self.store, normalize, clock)
        self.evictions = 0  # to make room for others

    def enter(self, frame: FrameInFlight) -> None:
        """A frame of a session has come: it is in use now."""
        owner, state = self.store.touch(frame.frame.session_id), frame.state
        if state.features is None:
            state.features = SessionFeatures(self._program, state.size, owner)

    def release(self, session_id: str) -> None:
        """Free all pages of a session. Idempotent."""
        self.store.release(session_id)

    def usage(self) -> MemoryUsage:
        """Pages are counted once per stride."""
        pools = self.store.pools.values()
        return MemoryUsage(
            bytes=sum((pool.capacity - pool.available) * pool.page_bytes for pool in pools),
            limit_bytes=sum(pool.capacity * pool.page_bytes for pool in pools),
            pages=sum(pool.capacity - pool.available for pool in pools),
            limit_pages=sum(pool.capacity for pool in pools),
            evictions=self.evictions,
        )

    def prepare(self, frame: FrameInFlight, busy: set[str]) -> bool:
        """Take pages for what will be computed of a frame, and let its references follow the motion.

        False: there is no room, or no feature to reuse. As a whole frame it needs none beside its old pages.
        """
        features = frame.features
        if frame.keep.any():
            if not features.stored:
                return False
            pages = self._allocate(features.owner, int(frame.touched.sum()), busy)
            if pages is None:
                return False
            features.new_pages = pages
        waits = frame.state.looks_ahead  # then bins of it are computed once it has a later frame, if at all
        if frame.motion is not None and not waits and features.stored and frame.motion.flow.numpy().any():
            features.move(frame.motion)
        return True

    def keep_whole(self, frame: FrameInFlight, kept: dict[str, Tensor], index: int, busy: set[str]) -> bool:
        """Store the kept maps, [N, C, h, w] by name, of frame ``index`` of those that were computed in full.

        False: there is no room for this session at all.
        """
        features = frame.features
        for pool in self.store.pools.values():
            pool.free_all(features.owner)
        pages = self._allocate(features.owner, features.tiles, busy)
        if pages is None:
            return False
        features.start(pages, {stride: self.store.zero_row(stride) for stride in pages})
        for node in self._program.kept:
            self.store.write_whole(node, kept[node.name][index], pages[node.stride], features.bins)
        return True

    def run(self, frames: list[FrameInFlight]) -> PartialResult:
        """Compute what is kept of all partial frames as one batch."""
        return self._partial.run(frames, any(frame.state.labels.planes > 1 for frame in frames))

    def collect_garbage(self, frames: list[FrameInFlight]) -> None:
        """Free what nothing refers to any more after a partial pass."""
        for frame in frames:
            frame.features.collect_garbage(self.store, self._pages_per_tile)

    def _allocate(self, owner: int, count: int, busy: set[str]) -> dict[int, Pages] | None:
        """Pages at every stride, evicting sessions that are not ``busy``. None: there are not so many."""
        pages: dict[int, Pages] = {}
        for stride, pool in self.store.pools.items():
            found = pool.allocate(owner, count)
            while found is None:
                victim = self.store.least_recent(excluding=busy)
                if victim is None:
                    return None
                self._evict(victim)
                self.evictions += 1
                found = pool.allocate(owner, count)
            pages[stride] = found
        return pages
