"""What the parts of one step share: frames, tables, the store, and values on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from tilestream.engine.lowering.program import Node
from tilestream.engine.memory.feature_store import FeatureStore
from tilestream.engine.tiles.frames import FrameTiles
from tilestream.engine.tiles.kernels import to_tiles
from tilestream.engine.tiles.tables import StepTables, TileSet

Region = tuple[int, int, int, int]  # first row and rows, first column and columns; relative to the tile


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
        """A kept map around the tiles: [n, C, rows, columns]."""
        table = self.tables.window(stride, self.tiles, region[:2], region[2:], border)
        return to_tiles(self.store.maps[name].index_select(0, table), region[1], region[3])

    def whole(self, node: Node, session: int) -> Tensor:
        """One session's whole map of a kept node that is up to date: [1, C, H, W]."""
        key = (node.name, session)
        if key not in self.wholes:
            rows = self.store.maps[node.name].index_select(0, self.tables.whole(node.stride, session))
            self.wholes[key] = to_tiles(rows, *self.tables.size(node.stride, session))
        return self.wholes[key]


Kernel = Callable[[Step], Tensor]
