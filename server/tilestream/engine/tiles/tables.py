"""Index tables of one step: which rows of the store each kept tile reads and writes.

All sessions of the step stand in one list of tiles. A table is made once per stride, kind of window and
set of tiles, and shared by every layer that reads in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.lowering.program import Axis, Window
from tilestream.engine.memory.row_map import RowMap
from tilestream.messages import UInt8Array

Ints = npt.NDArray[np.int64]
Band = tuple[Tensor, slice, slice]
T = TypeVar("T")


def bucket(count: int) -> int:
    """The next count for which kernels are kept ready: at most an eighth more than ``count``."""
    if count <= 8:
        return count
    step = 1 << (count.bit_length() - 4)
    return -(-count // step) * step


@dataclass(eq=False, slots=True)
class TileSet:
    """Tiles of one step that are computed together: session (position in the step), row, column."""

    session: Ints
    y: Ints
    x: Ints

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.session)

    @property
    def padded(self) -> int:
        """Number of tiles that kernels are run on."""
        return bucket(self.count)

    def without(self, others: TileSet) -> npt.NDArray[np.bool_]:
        """Which of these tiles are not among ``others``: bool [count]."""
        known = set(zip(others.session.tolist(), others.y.tolist(), others.x.tolist(), strict=True))
        mine = zip(self.session.tolist(), self.y.tolist(), self.x.tolist(), strict=True)
        return np.array([tile not in known for tile in mine], dtype=np.bool_)

    @staticmethod
    def from_masks(masks: list[npt.NDArray[np.bool_]]) -> TileSet:
        """The tiles that are True, session by session, in raster order."""
        parts = [np.nonzero(mask) for mask in masks]
        session = np.repeat(np.arange(len(masks)), [len(y) for y, _ in parts])
        return TileSet(session, np.concatenate([y for y, _ in parts]), np.concatenate([x for _, x in parts]))


@dataclass(slots=True)
class StrideMaps:
    """The reference maps of all sessions of a step at one stride, end to end."""

    tile: int
    zero_row: int
    flat: npt.NDArray[np.int32]
    base: Ints
    heights: Ints
    widths: Ints

    @staticmethod
    def of(maps: list[RowMap], tile: int) -> StrideMaps:
        sizes = np.array([m.rows.size for m in maps], dtype=np.int64)
        return StrideMaps(
            tile,
            maps[0].zero_row,
            np.concatenate([m.rows.ravel() for m in maps]),
            np.concatenate([[0], np.cumsum(sizes)[:-1]]),
            np.array([m.height for m in maps], dtype=np.int64),
            np.array([m.width for m in maps], dtype=np.int64),
        )

    def lookup(self, tiles: TileSet, y: Ints, x: Ints) -> npt.NDArray[np.int32]:
        """Rows at absolute positions ``y`` [n, a], ``x`` [n, b] -> [n, a, b]; outside is the zero row."""
        height, width = self.heights[tiles.session, None], self.widths[tiles.session, None]
        # Not np.clip: it is several times slower on arrays as small as these.
        y = np.minimum(np.maximum(y, -1), height) + 1
        x = np.minimum(np.maximum(x, -1), width) + 1
        start = self.base[tiles.session, None] + y * (width + 2)
        return self.flat[start[:, :, None] + x[:, None, :]]

    def origin(self, tiles: TileSet) -> tuple[Ints, Ints]:
        """Position of each tile's first feature, [n, 1]."""
        return tiles.y[:, None] * self.tile, tiles.x[:, None] * self.tile


@dataclass(slots=True)
class StepTables:
    """All tables of a step, made when first asked for. ``padded``: [sessions, 2], heights and widths.

    ``clock``: seconds; ``seconds``: that making them took.
    """

    maps: dict[int, StrideMaps]
    padded: Ints
    device: torch.device
    clock: Callable[[], float] = time.perf_counter
    seconds: float = 0.0
    _made: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def size(self, stride: int, session: int) -> tuple[int, int]:
        """Height and width of one session's map."""
        height, width = self.padded[session]
        return int(height) // stride, int(width) // stride

    def window(
        self, stride: int, tiles: TileSet, y: tuple[int, int], x: tuple[int, int], border: str = "zeros"
    ) -> Tensor:
        """int32 [padded * ly * lx]: rows around each tile. ``y``, ``x``: start relative to it, length."""

        def make() -> Tensor:
            spans = [start + np.arange(length) for start, length in (y, x)]
            return self._upload(self._rows(stride, tiles, spans[0], spans[1], border), tiles)

        return self._once(("window", stride, id(tiles), y, x, border), make)

    def patches(self, stride: int, tiles: TileSet, tile: int, window: Window) -> Tensor:
        """int32 [padded * tile * tile * taps]: rows that each output of a window reads.

        ``stride``: of the input. ``tile``: of the output.
        """

        def make() -> Tensor:
            rows = self._rows(stride, tiles, _taps(window.y, tile), _taps(window.x, tile), window.border)
            shape = (tiles.count, tile, window.y.kernel, tile, window.x.kernel)
            return self._upload(rows.reshape(shape).transpose(0, 1, 3, 2, 4), tiles)

        return self._once(("patches", stride, id(tiles), tile, window), make)

    def corners(self, stride: int, tiles: TileSet, tile: int, factor: int) -> tuple[Tensor, Tensor]:
        """Bilinear upsampling with aligned corners: rows int32 and weights float64, [4, n, tile, tile].

        Where an output reads depends on the size of the whole map, so every output has its own four taps.
        """

        def make() -> tuple[Tensor, Tensor]:
            maps = self.maps[stride]
            y0, y1, fy = _aligned(tiles.y, maps.heights[tiles.session, None], tile, factor)
            x0, x1, fx = _aligned(tiles.x, maps.widths[tiles.session, None], tile, factor)
            taps = [
                (y, wy, x, wx) for y, wy in ((y0, 1 - fy), (y1, fy)) for x, wx in ((x0, 1 - fx), (x1, fx))
            ]
            rows = [self._pad(maps.lookup(tiles, y, x), tiles, maps.zero_row) for y, _, x, _ in taps]
            weights = [self._pad(wy[:, :, None] * wx[:, None, :], tiles, 0.0) for _, wy, _, wx in taps]
            return tuple(upload(np.stack(a), self.device) for a in (rows, weights))  # type: ignore[return-value]

        return self._once(("corners", stride, id(tiles), tile, factor), make)

    def positions(self, stride: int, tiles: TileSet, session: int) -> Tensor:
        """int64 [n * tile * tile]: positions of one session's tiles in its whole map [H * W], clamped."""

        def make() -> Tensor:
            maps = self.maps[stride]
            chosen = tiles.session == session
            span = np.arange(maps.tile)
            y = np.minimum(tiles.y[chosen, None] * maps.tile + span, maps.heights[session] - 1)
            x = np.minimum(tiles.x[chosen, None] * maps.tile + span, maps.widths[session] - 1)
            flat = y[:, :, None] * maps.widths[session] + x[:, None, :]
            return upload(flat.ravel(), self.device)

        return self._once(("positions", stride, id(tiles), session), make)

    def whole(self, stride: int, session: int) -> Tensor:
        """int32 [H * W]: rows of one session's whole map."""

        def make() -> Tensor:
            maps = self.maps[stride]
            height, width = int(maps.heights[session]), int(maps.widths[session])
            start = int(maps.base[session])
            rows = maps.flat[start : start + (height + 2) * (width + 2)].reshape(height + 2, width + 2)
            return upload(np.ascontiguousarray(rows[1:-1, 1:-1]).ravel(), self.device)

        return self._once(("whole", stride, session), make)

    def inside_counts(self, stride: int, tiles: TileSet, tile: int, window: Window) -> Tensor:
        """float32 [n, 1, tile, tile]: how many positions of each output's window lie inside the map."""

        def make() -> Tensor:
            heights, widths = self.padded[:, 0] // stride, self.padded[:, 1] // stride
            counts = []
            for axis, sizes, origin in ((window.y, heights, tiles.y), (window.x, widths, tiles.x)):
                taps = origin[:, None] * (tile * axis.stride) + _taps(axis, tile)
                inside = (taps >= 0) & (taps < sizes[tiles.session, None])
                counts.append(inside.reshape(tiles.count, tile, axis.kernel).sum(-1))
            both = counts[0][:, :, None] * counts[1][:, None, :]
            padded = self._pad(np.maximum(both, 1).astype(np.float32), tiles, 1.0)
            return upload(padded[:, None], self.device)

        return self._once(("counts", stride, id(tiles), tile, window), make)

    def outside(
        self, stride: int, tiles: TileSet, tile: int, region: tuple[int, int, int, int]
    ) -> list[Band]:
        """What of a region around each tile lies outside of the map: tiles, rows and columns to overwrite."""
        heights, widths = self.padded[:, 0] // stride, self.padded[:, 1] // stride
        return self._bands(("outside", stride), heights, widths, tiles, tile, region)

    def outside_frame(
        self, images: list[UInt8Array], tiles: TileSet, bin_size: int, region: tuple[int, int, int, int]
    ) -> list[Band]:
        """The same for the frames themselves."""
        heights, widths = (np.array([image.shape[axis] for image in images]) for axis in (0, 1))
        return self._bands(("frame",), heights, widths, tiles, bin_size, region)

    def _bands(
        self,
        kind: tuple[object, ...],
        heights: Ints,
        widths: Ints,
        tiles: TileSet,
        tile: int,
        region: tuple[int, int, int, int],
    ) -> list[Band]:

        def make() -> list[Band]:
            found: list[Band] = []
            whole = slice(None)
            axes = ((tiles.y, heights, region[:2]), (tiles.x, widths, region[2:]))
            for axis, (position, sizes, (start, length)) in enumerate(axes):
                first = position * tile + start
                before = np.clip(-first, 0, length)
                behind = np.clip(first + length - sizes[tiles.session], 0, length)
                for counts, at_start in ((before, True), (behind, False)):
                    for count in np.unique(counts[counts > 0]):
                        index = upload(np.flatnonzero(counts == count), self.device)
                        band = slice(0, int(count)) if at_start else slice(length - int(count), length)
                        found.append((index, whole, band) if axis else (index, band, whole))
            return found

        return self._once((*kind, id(tiles), region), make)

    def _once(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        if key not in self._made:
            started = self.clock()
            self._made[key] = make()
            self.seconds += self.clock() - started
        return self._made[key]  # type: ignore[no-any-return]

    def _rows(self, stride: int, tiles: TileSet, y: Ints, x: Ints, border: str) -> npt.NDArray[np.int32]:
        maps = self.maps[stride]
        origin_y, origin_x = maps.origin(tiles)
        ys = _outside(origin_y + y, maps.heights[tiles.session, None], border)
        xs = _outside(origin_x + x, maps.widths[tiles.session, None], border)
        rows = maps.lookup(tiles, ys, xs)
        if border == "lowest":
            rows = np.where(rows == maps.zero_row, maps.zero_row + 1, rows)
        return rows

    def _upload(self, rows: npt.NDArray[np.int32], tiles: TileSet) -> Tensor:
        padded = self._pad(np.ascontiguousarray(rows), tiles, 0)
        return upload(padded.ravel(), self.device)

    @staticmethod
    def _pad(values: npt.NDArray[np.generic], tiles: TileSet, fill: float) -> npt.NDArray[np.generic]:
        """Append what fills the bucket; what is computed there is thrown away."""
        missing = tiles.padded - tiles.count
        if not missing:
            return values
        shape = (missing, *values.shape[1:])
        return np.concatenate([values, np.full(shape, fill, dtype=values.dtype)])


def _taps(axis: Axis, tile: int) -> Ints:
    """Positions, relative to the tile, that ``tile`` outputs read: [tile * kernel]."""
    start = np.arange(tile)[:, None] * axis.stride - axis.lo
    return (start + np.arange(axis.kernel) * axis.dilation).ravel()


def _aligned(
    position: Ints, size: Ints, tile: int, factor: int
) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Along one axis, the two inputs that each output lies between, and how far it is from the first."""
    out = position[:, None] * tile + np.arange(tile)
    source = np.minimum(out * ((size - 1) / np.maximum(size * factor - 1, 1)), size - 1)
    first = np.floor(source).astype(np.int64)
    return first, np.minimum(first + 1, size - 1), source - first


def _outside(position: Ints, size: Ints, border: str) -> Ints:
    """Where positions beyond the map read from."""
    if border == "replicate":
        return np.clip(position, 0, size - 1)
    if border == "circular":
        return position % size
    if border == "reflect":
        period = np.maximum(2 * (size - 1), 1)
        folded = np.abs(position) % period
        return np.minimum(folded, period - folded)
    return position
