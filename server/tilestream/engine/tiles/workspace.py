"""What the parts of one step share: frames, tables, the store, and values on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from tilestream.engine.lowering.program import Node, Window
from tilestream.engine.memory.feature_store import FeatureStore
from tilestream.engine.tiles.frames import FrameTiles
from tilestream.engine.tiles.kernels import to_tiles
from tilestream.engine.tiles.tables import StepTables, TileSet

Region = tuple[int, int, int, int]  # first row and rows, first column and columns; relative to the tile


class Workspace(Protocol):
    """What the stages of a step read from, whoever makes its tables: for the n tiles that are computed now.

    ``values``: of nodes that several others of the stage read, by node and region.
    """

    values: dict[tuple[str, Region], Tensor]

    def gather(self, name: str, stride: int, region: Region, border: str) -> Tensor:
        """A kept map around the tiles: [n, C, rows, columns]."""

    def image(self, region: Region) -> Tensor:
        """The normalised frame around the tiles: [n, 3, rows, columns]; zero outside of it."""

    def fill_outside(self, values: Tensor, stride: int, region: Region, fill: float) -> None:
        """Overwrite what of [n, C, rows, columns] around the tiles lies outside of a map."""

    def patches(self, name: str, stride: int, tile: int, window: Window) -> Tensor:
        """What each output of a window reads of a kept map: [n * tile * tile, taps * C].

        ``stride``: of the kept map. ``tile``: of the output.
        """

    def inside_counts(self, stride: int, tile: int, window: Window) -> Tensor:
        """[n, 1, tile, tile]: how many positions of each output's window lie inside the map, at least 1."""

    def corners(self, stride: int, tile: int, factor: int) -> tuple[Tensor, Tensor]:
        """Upsampling with aligned corners: rows of the kept maps and their weights, [4, n, tile, tile]."""

    def rows(self, name: str) -> Tensor:
        """A kept map of all sessions by row: [rows, C]."""


@dataclass(slots=True)
class Step:
    """What one step works on. ``tiles`` and ``values`` are those of the stage that runs now."""

    tables: StepTables
    frames: FrameTiles
    store: FeatureStore
    tiles: TileSet
    values: dict[tuple[str, Region], Tensor] = field(default_factory=dict)
    wholes: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def gather(self, name: str, stride: int, region: Region, border: str) -> Tensor:
        """See :class:`Workspace`, as all but the last."""
        table = self.tables.window(stride, self.tiles, region[:2], region[2:], border)
        return to_tiles(self.store.maps[name].index_select(0, table), region[1], region[3])

    def image(self, region: Region) -> Tensor:
        return self.frames.gather(self.tiles, region)

    def fill_outside(self, values: Tensor, stride: int, region: Region, fill: float) -> None:
        tile = self.store.program.tile(stride)
        for index, rows, columns in self.tables.outside(stride, self.tiles, tile, region):
            values[index, :, rows, columns] = fill

    def patches(self, name: str, stride: int, tile: int, window: Window) -> Tensor:
        table = self.tables.patches(stride, self.tiles, tile, window)
        rows = self.store.maps[name].index_select(0, table)
        return rows.view(-1, window.y.kernel * window.x.kernel * rows.shape[1])

    def inside_counts(self, stride: int, tile: int, window: Window) -> Tensor:
        return self.tables.inside_counts(stride, self.tiles, tile, window)

    def corners(self, stride: int, tile: int, factor: int) -> tuple[Tensor, Tensor]:
        return self.tables.corners(stride, self.tiles, tile, factor)

    def rows(self, name: str) -> Tensor:
        return self.store.maps[name]

    def whole(self, node: Node, session: int) -> Tensor:
        """One session's whole map of a kept node that is up to date: [1, C, H, W]."""
        key = (node.name, session)
        if key not in self.wholes:
            rows = self.store.maps[node.name].index_select(0, self.tables.whole(node.stride, session))
            self.wholes[key] = to_tiles(rows, *self.tables.size(node.stride, session))
        return self.wholes[key]


Kernel = Callable[[Workspace], Tensor]
