"""The partial frames of a step: what all of them keep, packed and run as one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tilestream.engine.arrays import Mask
from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.device import upload
from tilestream.engine.frame import FrameInFlight
from tilestream.engine.memory.feature_store import FeatureStore
from tilestream.engine.tiles.executor import TileExecutor
from tilestream.engine.tiles.frames import FrameTiles
from tilestream.engine.tiles.tables import StepTables, StrideMaps, TileSet
from tilestream.engine.tiles.workspace import Step

Pages = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartialResult:
    """``planes``: labels and, if asked for, confidence of ``tiles``, uint8 [n, bin, bin], on the device.

    ``table_seconds``: of the time it took, what went into index tables.
    """

    tiles: TileSet
    planes: list[Tensor]
    table_seconds: float


class PartialStep:
    """Runs partial frames of many sessions together."""

    def __init__(
        self,
        executor: TileExecutor,
        store: FeatureStore,
        normalize: Normalizer,
        clock: Callable[[], float],
    ) -> None:
        self._executor, self._store, self._normalize, self._clock = executor, store, normalize, clock
        self._program, self._device = executor.program, executor.device

    def run(self, frames: list[FrameInFlight], want_confidence: bool) -> PartialResult:
        """Compute the kept tiles of all frames; their features have new pages for them."""
        started = self._clock()
        program, strides = self._program, self._program.strides
        sets, chosen = self._tile_sets(frames)
        touched = sets[_key([frame.touched for frame in frames])]
        before = self._place_pages(frames, keep_old=len(sets) > 1)
        pages = {s: {id(tiles): _pages_of(frames, tiles, s) for tiles in sets.values()} for s in strides}
        maps = {s: StrideMaps.of([f.features.maps[s] for f in frames], program.tile(s)) for s in strides}
        tables = StepTables(
            maps, np.array([program.padded(*f.state.size) for f in frames]), self._device, self._clock
        )
        prepared = self._clock() - started
        if before:
            self._copy_dropped(before, touched, chosen, pages)
        images = FrameTiles(
            [frame.pixels.numpy() for frame in frames], self._normalize, tables, program.bin_size
        )
        step = Step(tables, images, self._store, touched)
        planes = self._executor.run(step, chosen, pages, want_confidence)
        return PartialResult(chosen[-1], planes, prepared + tables.seconds)

    def _tile_sets(self, frames: list[FrameInFlight]) -> tuple[dict[bytes, TileSet], list[TileSet]]:
        """One set of tiles for each different mask, and which of them each stage is run on."""
        everything = [frame.touched for frame in frames]
        sets = {_key(everything): TileSet.from_masks(everything)}
        chosen = []
        for index in range(len(self._program.stages)):
            masks = [frame.masks[index] for frame in frames]
            key = _key(masks)
            if key not in sets:
                sets[key] = TileSet.from_masks(masks)
            chosen.append(sets[key])
        return sets, chosen

    def _place_pages(self, frames: list[FrameInFlight], keep_old: bool) -> dict[int, StrideMaps]:
        """Let the computed tiles refer to their new pages; the moved references of before, if needed."""
        before = {}
        for stride in self._program.strides:
            if keep_old:
                old = [frame.features.maps[stride] for frame in frames]
                before[stride] = StrideMaps.of(old, self._program.tile(stride))
            for frame in frames:
                frame.features.place(stride, *np.nonzero(frame.touched))
        return before

    def _copy_dropped(
        self,
        before: dict[int, StrideMaps],
        touched: TileSet,
        chosen: list[TileSet],
        pages: dict[int, dict[int, Pages]],
    ) -> None:
        """In bins where only some stages run, the others' moved values go along into the new pages."""
        for stage, tiles in zip(self._program.stages, chosen, strict=True):
            if tiles is touched or stage.output == self._program.output:
                continue
            missing = touched.without(tiles)
            rest = TileSet(touched.session[missing], touched.y[missing], touched.x[missing])
            if not rest.count:
                continue
            maps, span = before[stage.stride], np.arange(stage.tile)
            origin_y, origin_x = maps.origin(rest)
            source = upload(maps.lookup(rest, origin_y + span, origin_x + span).reshape(-1), self._device)
            target = upload(pages[stage.stride][id(touched)][missing], self._device)
            moved = self._store.maps[stage.output].index_select(0, source)
            self._store.pages[stage.output].index_copy_(0, target, moved.view(len(target), -1))


def _key(masks: list[Mask]) -> bytes:
    return b"".join(mask.tobytes() for mask in masks)


def _pages_of(frames: list[FrameInFlight], tiles: TileSet, stride: int) -> Pages:
    """The new page of every tile of a set."""
    parts = []
    for session, frame in enumerate(frames):
        mine = tiles.session == session
        grid = np.zeros(frame.touched.shape, dtype=np.int64)
        grid[frame.touched] = frame.features.new_pages[stride]
        parts.append(grid[tiles.y[mine], tiles.x[mine]])
    return np.concatenate(parts)
