"""Which tiles a step computes: from the host's masks to lists on the device, in one upload."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tilestream.engine.arrays import Mask
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.tiles.masks import stage_masks
from tilestream.engine.tiles.tables import TileSet, bucket

Ints = npt.NDArray[np.int32]
_COLUMNS = 5
_ALIGNED = 4  # lists begin at multiples of so many numbers: kernels are compiled anew for others


@dataclass(eq=False, slots=True)
class DeviceTiles:
    """Tiles that are computed together. ``host``: frame (position in the step), row, column.

    On the device, int32 [padded] each: ``frame``, ``slot``, ``y``, ``x`` and ``page``, where the tile's
    features lie. Behind ``count`` tiles stand such as fill up the batch; they are of nobody's slot and page.
    """

    host: TileSet
    frame: Tensor
    slot: Tensor
    y: Tensor
    x: Tensor
    page: Tensor

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.host.count

    @property
    def padded(self) -> int:
        """Number of tiles that kernels are run on."""
        return len(self.slot)

    def parts(self, most: int) -> list[DeviceTiles]:
        """These tiles in order, in lists of at most so many."""
        if self.padded <= most:
            return [self]
        columns = (self.frame, self.slot, self.y, self.x, self.page)
        found = []
        for first in range(0, self.padded, most):
            part = slice(first, first + most)
            host = TileSet(self.host.session[part], self.host.y[part], self.host.x[part])
            found.append(DeviceTiles(host, *(column[part] for column in columns)))
        return found


@dataclass(slots=True)
class StepTiles:
    """``touched``: where anything is computed. By stage: ``computed``, and ``rest``, the touched tiles in
    which the stage is not run; None where there are none. ``slots``: int64 [N] of the frames.
    """

    slots: Tensor
    touched: DeviceTiles
    computed: list[DeviceTiles]
    rest: list[DeviceTiles | None]


@dataclass(frozen=True, slots=True)
class PackedTiles:
    """The lists of a step on the host, all in one array: int32 ``numbers``.

    ``slots`` are the first of them, ``sets`` follow. ``touched``, ``computed``, ``rest``: as in
    :class:`StepTiles`, by number of the set.
    """

    numbers: Ints
    slots: int
    sets: list[TileSet]
    touched: int
    computed: list[int]
    rest: list[int | None]

    @property
    def layout(self) -> Hashable:
        """Steps of one layout run the same operations on arrays of the same sizes."""
        padded = tuple(_padded(tiles.count) for tiles in self.sets)
        return self.slots, padded, tuple(self.computed), tuple(self.rest)

    def unpacked(self, numbers: Tensor) -> StepTiles:
        """The lists, once their numbers are on the device."""
        sizes = [_COLUMNS * _padded(tiles.count) for tiles in self.sets]
        slots, *lists = numbers.split([_aligned(self.slots), *sizes])
        sets = [
            DeviceTiles(host, *columns.view(_COLUMNS, -1))
            for host, columns in zip(self.sets, lists, strict=True)
        ]
        return StepTiles(
            slots[: self.slots].long(),
            sets[self.touched],
            [sets[index] for index in self.computed],
            [None if index is None or not sets[index].count else sets[index] for index in self.rest],
        )


def pack_tiles(
    program: TileProgram,
    keep: Mask,
    slots: npt.NDArray[np.int64],
    pages: Ints,
    nobody: tuple[int, int],
) -> PackedTiles:
    """Lists of tiles for every stage. ``keep``: bool [N, units, bins_h, bins_w].

    ``slots``: int64 [N]. ``pages``: int32 [N, bins_h, bins_w], of the touched tiles. ``nobody``: slot and
    page of what fills up a batch.
    """
    frames, units, rows, columns = keep.shape
    shape = (frames, rows, columns)
    flat = keep.transpose(1, 0, 2, 3).reshape(units, frames * rows, columns)
    packer = _Packer(slots, pages, nobody)
    touched = packer.add(np.asarray(keep.any(axis=1)))
    computed: list[int] = []
    rest: list[int | None] = []
    for mask in stage_masks(program, flat):
        mask = mask.reshape(shape)
        computed.append(packer.add(mask))
        rest.append(None if computed[-1] == touched else packer.add(packer.masks[touched] & ~mask))
    numbers, sets = packer.packed()
    return PackedTiles(numbers, frames, sets, touched, computed, rest)


class _Packer:
    """Collects sets of tiles, each different one once, in one array."""

    def __init__(self, slots: npt.NDArray[np.int64], pages: Ints, nobody: tuple[int, int]) -> None:
        self._slots, self._pages, self._nobody = slots, pages, nobody
        self.masks: list[Mask] = []
        self._known: dict[bytes, int] = {}

    def add(self, mask: Mask) -> int:
        """The number of the set of tiles in which a mask, bool [N, bins_h, bins_w], is True."""
        key = mask.tobytes()
        if key not in self._known:
            self._known[key] = len(self.masks)
            self.masks.append(mask)
        return self._known[key]

    def packed(self) -> tuple[Ints, list[TileSet]]:
        """The frames' slots and the columns of all sets, one after the other, and the sets."""
        sets = [TileSet(*np.nonzero(mask)) for mask in self.masks]
        slots = np.zeros(_aligned(len(self._slots)), dtype=np.int32)
        slots[: len(self._slots)] = self._slots
        return np.concatenate([slots, *(self._columns(tiles).ravel() for tiles in sets)]), sets

    def _columns(self, tiles: TileSet) -> Ints:
        slot, page = self._nobody
        columns = np.zeros((_COLUMNS, _padded(tiles.count)), dtype=np.int32)
        columns[1], columns[4] = slot, page
        place = (tiles.session, tiles.y, tiles.x)
        known = (tiles.session, self._slots[tiles.session], tiles.y, tiles.x, self._pages[place])
        columns[:, : tiles.count] = np.stack(known)
        return columns


def _aligned(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED


def _padded(count: int) -> int:
    """Tiles that kernels are run on for so many."""
    return _aligned(bucket(count))
