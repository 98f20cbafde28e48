"""Every session's kept features: one paged tensor per map, pages counted per stride, bounded memory.

All maps of one stride share page numbers: page p of a stride is rows [p * T * T, (p + 1) * T * T) in each
of its tensors [pages * T * T + 2, C]. A row is one feature pixel; the last two rows are constants, zero and
the lowest value, for what lies outside of a map.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.device import upload
from tilestream.engine.lowering.program import Node, TileProgram

Pages = npt.NDArray[np.int64]
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """Bytes of the store: held by sessions, set aside in all, and per session."""

    in_use: int
    reserved: int
    per_session: dict[str, int]


class PagePool:
    """Who owns which page of one stride. ``page_bytes``: of one page in all maps of the stride."""

    def __init__(self, capacity: int, page_bytes: int) -> None:
        self.capacity, self.page_bytes = capacity, page_bytes
        self._owner = np.full(capacity, _NOBODY, dtype=np.int64)
        # A stack: pages that were freed last are used first, and lie in the caches.
        self._free = list(range(capacity - 1, -1, -1))

    @property
    def available(self) -> int:
        """Pages that nobody owns."""
        return len(self._free)

    def allocate(self, owner: int, count: int) -> Pages | None:
        """Pages for ``owner``; None if there are not so many."""
        if count > len(self._free):
            return None
        pages = np.array(self._free[len(self._free) - count :][::-1], dtype=np.int64)
        del self._free[len(self._free) - count :]
        self._owner[pages] = owner
        return pages

    def free(self, owner: int, pages: Pages) -> None:
        """Give pages back. What ``owner`` does not own is left alone, so doing it twice is harmless."""
        pages = np.unique(pages[self._owner[pages] == owner])
        self._owner[pages] = _NOBODY
        self._free.extend(pages[::-1].tolist())

    def owned(self, owner: int) -> Pages:
        """The pages of ``owner``, ascending."""
        return np.flatnonzero(self._owner == owner)

    def free_all(self, owner: int) -> None:
        """Give back all that ``owner`` has. Idempotent."""
        self.free(owner, self.owned(owner))

    def keep_only(self, owner: int, pages: Pages) -> int:
        """Give back what ``owner`` has beyond ``pages``; how many pages it still has."""
        kept = np.zeros(self.capacity, dtype=np.bool_)
        kept[pages] = True
        mine = self._owner == owner
        self.free(owner, np.flatnonzero(mine & ~kept))
        return int(np.count_nonzero(mine & kept))


class FeatureStore:
    """Pages for all sessions of one program within ``max_bytes``."""

    def __init__(
        self, program: TileProgram, max_bytes: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.program, self.device, self._dtype = program, device, dtype
        channels = dict.fromkeys(program.strides, 0)
        for node in program.kept:
            channels[node.stride] += node.channels
        itemsize = torch.empty(0, dtype=dtype).element_size()
        self._page_bytes = {s: program.tile(s) ** 2 * c * itemsize for s, c in channels.items()}
        capacity = int(max_bytes // sum(self._page_bytes.values()))
        self.pools = {s: PagePool(capacity, size) for s, size in self._page_bytes.items()}
        self.maps: dict[str, Tensor] = {}  # by row, [rows, C]
        self.pages: dict[str, Tensor] = {}  # the same memory by page, [pages, T * T * C]
        self._owners: OrderedDict[str, int] = OrderedDict()  # by last use, the oldest first
        self._next_owner = 0

    def _take_memory(self) -> None:
        """Only when the first session comes: an engine that stands by leaves the device's memory alone.

        All of it or nothing: what does not fit is tried again by the next step.
        """
        maps, pages = {}, {}
        for node in self.program.kept:
            capacity, per_page = self.pools[node.stride].capacity, self.program.tile(node.stride) ** 2
            rows = capacity * per_page
            tensor = torch.empty(rows + 2, node.channels, device=self.device, dtype=self._dtype)
            tensor[rows], tensor[rows + 1] = 0.0, torch.finfo(self._dtype).min
            maps[node.name] = tensor
            pages[node.name] = tensor[:rows].view(capacity, per_page * node.channels)
        self.maps.update(maps)
        self.pages.update(pages)

    def zero_row(self, stride: int) -> int:
        """The row that is zero in every map of a stride; the next one is the lowest value."""
        return self.pools[stride].capacity * self.program.tile(stride) ** 2

    def touch(self, session_id: str) -> int:
        """Note that a session is in use now; returns its number as an owner of pages."""
        if not self.maps:
            self._take_memory()
        if session_id not in self._owners:
            self._owners[session_id] = self._next_owner
            self._next_owner += 1
        self._owners.move_to_end(session_id)
        return self._owners[session_id]

    def least_recent(self, excluding: set[str]) -> str | None:
        """The session that was used longest ago, of those that hold pages."""
        return next((name for name in self._owners if name not in excluding), None)

    def release(self, session_id: str) -> None:
        """Free all pages of a session. Idempotent."""
        owner = self._owners.pop(session_id, None)
        if owner is not None:
            for pool in self.pools.values():
                pool.free_all(owner)

    def write_whole(self, node: Node, values: Tensor, pages: Pages, bins: tuple[int, int]) -> None:
        """Write a whole map [C, H, W] of ``node`` into one page per tile, in raster order."""
        store, tile = self.pages[node.name], self.program.tile(node.stride)
        first, contiguous = int(pages[0]), bool((np.diff(pages) == 1).all())
        target = (
            store[first : first + len(pages)] if contiguous else store.new_empty(len(pages), store.shape[1])
        )
        tiles = target.view(*bins, tile, tile, -1)
        source = values.permute(1, 2, 0)
        for top, across in _parts(source.shape[0], tile):
            for left, along in _parts(source.shape[1], tile):
                rows, columns = top.stop - top.start, left.stop - left.start
                block = source[top.start * tile :, left.start * tile :][: rows * across, : columns * along]
                block = block.reshape(rows, across, columns, along, -1).transpose(1, 2)
                tiles[top, left, :across, :along].copy_(block)
        if not contiguous:
            store.index_copy_(0, upload(pages, store.device), target)

    def usage(self) -> StoreUsage:
        """Bytes in use, set aside and per session; exact."""
        per_session = {
            name: sum(len(pool.owned(owner)) * pool.page_bytes for pool in self.pools.values())
            for name, owner in self._owners.items()
        }
        reserved = sum(pool.capacity * pool.page_bytes for pool in self.pools.values())
        return StoreUsage(sum(per_session.values()), reserved, per_session)

    def fits(self, height: int, width: int) -> bool:
        """Whether the store can hold one session of that frame size at all."""
        return all(np.prod(self.program.bins(height, width)) <= pool.capacity for pool in self.pools.values())


def _parts(size: int, tile: int) -> list[tuple[slice, int]]:
    """Whole tiles of an axis, and the last one if the map ends within it: which, and how much of each."""
    whole = size // tile
    parts = [(slice(0, whole), tile)] if whole else []
    return parts + ([(slice(whole, whole + 1), size % tile)] if size % tile else [])
