"""What compiled stages read from, with tables and frames on the device: a ``tiles.workspace.Workspace``."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tilestream.engine.lowering.program import Axis, Node, TileProgram, Window
from tilestream.engine.resident.partial.kernels import RowKernels, Target
from tilestream.engine.resident.partial.tables import ResidentTables
from tilestream.engine.resident.partial.tile_sets import DeviceTiles
from tilestream.engine.tiles.kernels import to_tiles
from tilestream.engine.tiles.workspace import Region


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a step. ``pixels``: uint8 [N, 3, H, W]. ``slots``: int64 [N]. ``padded``: height and
    width as the network sees them. ``scale``, ``shift``: float32 [3], what normalises pixels.
    """

    pixels: Tensor
    slots: Tensor
    padded: tuple[int, int]
    scale: Tensor
    shift: Tensor


@dataclass(slots=True)
class ResidentStep:
    """What one step works on. ``tiles`` and ``values`` are those of the stage that runs now."""

    program: TileProgram
    frames: Frames
    tables: ResidentTables
    maps: dict[str, Tensor]
    tiles: DeviceTiles
    dtype: torch.dtype
    values: dict[tuple[str, Region], Tensor] = field(default_factory=dict)
    _wholes: dict[str, Tensor] = field(default_factory=dict)
    _places: dict[tuple[int, DeviceTiles], Tensor] = field(default_factory=dict)

    @property
    def kernels(self) -> RowKernels:
        """What rows are worked on with."""
        return self.tables.kernels

    def begin(self, tiles: DeviceTiles) -> None:
        """Another stage runs now, on these tiles."""
        self.tiles = tiles
        self.values.clear()

    def target(self, node: Node) -> Target:
        """Where the tiles of a kept map go: into their own pages."""
        return Target(self.maps[node.name], self.tables.own(node.stride, self.tiles))

    def gather(self, name: str, stride: int, region: Region, border: str) -> Tensor:
        """See ``Workspace``, as the next six."""
        table = self.tables.around(stride, self.tiles, region, border)
        return to_tiles(self.maps[name].index_select(0, table.view(-1)), region[1], region[3])

    def image(self, region: Region) -> Tensor:
        frames = self.frames
        return self.kernels.image(
            frames.pixels, self.tiles, self.program.bin_size, region, frames.scale, frames.shift, self.dtype
        )

    def fill_outside(self, values: Tensor, stride: int, region: Region, fill: float) -> None:
        (y, height), (x, width) = self._positions(stride, region)
        outside_y, outside_x = (y < 0) | (y >= height), (x < 0) | (x >= width)
        values.masked_fill_((outside_y[:, :, None] | outside_x[:, None, :])[:, None], fill)

    def patches(self, name: str, stride: int, tile: int, window: Window) -> Tensor:
        table = self.tables.patches(stride, self.tiles, tile, window)
        rows = self.maps[name].index_select(0, table.view(-1))
        return rows.view(-1, table.shape[1] * rows.shape[1])

    def inside_counts(self, stride: int, tile: int, window: Window) -> Tensor:
        height, width = self._size(stride)
        y = self._inside(self.tiles.y, window.y, tile, height)
        x = self._inside(self.tiles.x, window.x, tile, width)
        return (y[:, :, None] * x[:, None, :]).clamp_(min=1).float()[:, None]

    def corners(self, stride: int, tile: int, factor: int) -> tuple[Tensor, Tensor]:
        height, width = self._size(stride)
        references, slot = self.tables.references[stride].rows, self.tiles.slot.long()[:, None, None]
        y0, y1, far_y = _aligned(self.tiles.y, height, tile, factor)
        x0, x1, far_x = _aligned(self.tiles.x, width, tile, factor)
        rows, weights = [], []
        for y, wy in ((y0, 1 - far_y), (y1, far_y)):
            for x, wx in ((x0, 1 - far_x), (x1, far_x)):
                line = slot * (height + 2) + y[:, :, None] + 1
                rows.append(references.view(-1).take(line * (width + 2) + x[:, None, :] + 1))
                weights.append(wy[:, :, None] * wx[:, None, :])
        return torch.stack(rows), torch.stack(weights)

    def rows(self, name: str) -> Tensor:
        return self.maps[name]

    def whole(self, node: Node) -> Tensor:
        """The whole maps of a kept node that is up to date, of all frames: [N, C, H, W]."""
        if node.name not in self._wholes:
            references = self.tables.references[node.stride]
            index = references.inner(self.frames.slots).view(-1)
            rows = self.maps[node.name].index_select(0, index)
            self._wholes[node.name] = to_tiles(rows, references.height, references.width)
        return self._wholes[node.name]

    def cut(self, maps: Tensor, stride: int) -> Tensor:
        """The tiles of whole maps [N, C, H, W] of all frames: [n, C, tile, tile]."""
        tile = self.program.tile(stride)
        if (stride, self.tiles) not in self._places:
            height, width = maps.shape[2:]
            (y, _), (x, _) = self._positions(stride, (0, tile, 0, tile))
            line = self.tiles.frame.long()[:, None] * height + y.clamp(max=height - 1)
            flat = line[:, :, None] * width + x.clamp(max=width - 1)[:, None, :]
            self._places[stride, self.tiles] = flat.view(-1)
        rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        return to_tiles(rows.index_select(0, self._places[stride, self.tiles]), tile, tile)

    def _size(self, stride: int) -> tuple[int, int]:
        height, width = self.frames.padded
        return height // stride, width // stride

    def _positions(self, stride: int, region: Region) -> tuple[tuple[Tensor, int], tuple[Tensor, int]]:
        """Of rows and columns of a region: where in the map they lie, int64 [n, length], and its size."""
        tile, (height, width) = self.program.tile(stride), self._size(stride)
        top, rows, left, columns = region
        span_y = torch.arange(top, top + rows, device=self.tiles.y.device)
        span_x = torch.arange(left, left + columns, device=self.tiles.x.device)
        y = self.tiles.y[:, None] * tile + span_y
        x = self.tiles.x[:, None] * tile + span_x
        return (y, height), (x, width)

    @staticmethod
    def _inside(position: Tensor, axis: Axis, tile: int, size: int) -> Tensor:
        """How many taps of each output lie inside the map along an axis: int64 [n, tile]."""
        outputs = position[:, None] * tile + torch.arange(tile, device=position.device)
        first = (outputs * axis.stride - axis.lo)[:, :, None]
        places = first + torch.arange(axis.kernel, device=position.device) * axis.dilation
        return ((places >= 0) & (places < size)).sum(dim=2)


def _aligned(position: Tensor, size: int, tile: int, factor: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, the two inputs that each output lies between, and how far it is from the first."""
    out = position.long()[:, None] * tile + torch.arange(tile, device=position.device)
    step = (size - 1) / max(size * factor - 1, 1)
    source = (out.double() * step).clamp_(max=size - 1)
    first = source.floor().long()
    return first, (first + 1).clamp_(max=size - 1), source - first
