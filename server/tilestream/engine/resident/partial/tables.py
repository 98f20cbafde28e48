"""Index tables of one step, made on the device when first asked for and shared by all layers alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.lowering.program import Axis, Window
from tilestream.engine.resident.partial.kernels import Pattern, RowKernels
from tilestream.engine.resident.partial.references import References
from tilestream.engine.resident.partial.tile_sets import DeviceTiles

Ints = npt.NDArray[np.int32]
Region = tuple[int, int, int, int]
_PATTERNS = 256  # a program needs one for every kind of window it has


class Patterns:
    """Positions that windows read around a tile, brought to the device once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.region = lru_cache(_PATTERNS)(self._region)
        self.window = lru_cache(_PATTERNS)(self._window)
        self.corners = lru_cache(_PATTERNS)(self._corners)

    def _region(self, region: Region) -> Pattern:
        top, rows, left, columns = region
        y, x = np.meshgrid(
            np.arange(top, top + rows, dtype=np.int32),
            np.arange(left, left + columns, dtype=np.int32),
            indexing="ij",
        )
        return self._pattern(y, x)

    def _window(self, window: Window, tile: int) -> Pattern:
        """[tile, tile, kernel rows, kernel columns], as outputs read it."""
        y, x = taps(window.y, tile), taps(window.x, tile)
        shape = (tile, tile, window.y.kernel, window.x.kernel)
        return self._pattern(
            np.broadcast_to(y[:, None, :, None], shape), np.broadcast_to(x[None, :, None, :], shape)
        )

    def _corners(self, factor: int, tile: int) -> tuple[Pattern, Tensor]:
        """Bilinear upsampling: [tile, tile, 4], and weights float32 [tile * tile, 4]."""
        source = (np.arange(tile) + 0.5) / factor - 0.5
        first = np.floor(source).astype(np.int32)
        ends = np.stack([first, first + 1], axis=1)
        share = np.stack([1 - (source - first), source - first], axis=1)
        shape = (tile, tile, 2, 2)
        pattern = self._pattern(
            np.broadcast_to(ends[:, None, :, None], shape), np.broadcast_to(ends[None, :, None, :], shape)
        )
        weights = (share[:, None, :, None] * share[None, :, None, :]).astype(np.float32)
        return pattern, upload(weights.reshape(-1, 4), self._device)

    def _pattern(self, y: Ints, x: Ints) -> Pattern:
        both = upload(np.stack([y.ravel(), x.ravel()]), self._device)
        return Pattern(both[0], both[1])


@dataclass(slots=True)
class ResidentTables:
    """All tables of a step, by set of tiles. ``references``: by stride."""

    references: dict[int, References]
    patterns: Patterns
    kernels: RowKernels
    _made: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    def own(self, stride: int, tiles: DeviceTiles) -> Tensor:
        """int32 [n * tile * tile]: rows of the tiles' own pages."""
        tile = self.references[stride].tile
        return self._once(("own", tile, tiles), lambda: self.kernels.own_rows(tiles, tile))

    def around(self, stride: int, tiles: DeviceTiles, region: Region, border: str) -> Tensor:
        """int32 [n, rows * columns]: rows of a region around each tile."""

        def make() -> Tensor:
            return self.lookup(stride, tiles, self.patterns.region(region), border)

        return self._once(("region", stride, tiles, region, border), make)

    def patches(self, stride: int, tiles: DeviceTiles, tile: int, window: Window) -> Tensor:
        """int32 [n * tile * tile, taps]: rows that each output of a window reads.

        ``stride``: of the input. ``tile``: of the output.
        """

        def make() -> Tensor:
            found = self.lookup(stride, tiles, self.patterns.window(window, tile), window.border)
            return found.view(-1, window.y.kernel * window.x.kernel)

        return self._once(("window", stride, tiles, tile, window), make)

    def corners(self, stride: int, tiles: DeviceTiles, factor: int) -> tuple[Tensor, Tensor]:
        """Bilinear upsampling: int32 [n * tile * tile, 4] of rows, and weights float32 [tile * tile, 4]."""
        pattern, weights = self.patterns.corners(factor, self.references[stride].tile * factor)

        def make() -> Tensor:
            return self.lookup(stride, tiles, pattern, "replicate").view(-1, 4)

        return self._once(("corners", stride, tiles, factor), make), weights

    def lookup(self, stride: int, tiles: DeviceTiles, pattern: Pattern, border: str) -> Tensor:
        """int32 [n, P]: rows at the positions of a pattern around each tile."""
        kept = self.references[stride]
        return self.kernels.lookup(kept.rows, tiles, kept.tile, pattern, border, kept.zero_row)

    def _once(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def taps(axis: Axis, tile: int) -> Ints:
    """Positions, relative to the tile, that ``tile`` outputs read: [tile, kernel]."""
    start = np.arange(tile, dtype=np.int32)[:, None] * axis.stride - axis.lo
    return start + np.arange(axis.kernel, dtype=np.int32) * axis.dilation
