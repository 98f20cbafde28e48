"""Memory for the kept maps of all slots: pages, counted by the host alone.

A page is the memory of one tile in every kept map: page p of a map at a stride with tiles of T x T features
is its rows [p * T * T, (p + 1) * T * T). Which page belongs to whom follows from what the host decided, so
the device is never asked.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.lowering.program import TileProgram

PageNumbers = npt.NDArray[np.int32]


class PageLedger:
    """Who holds which of ``capacity`` pages. An owner may be anything that can be a key."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # A stack: pages that were freed last are used first, and lie in the caches.
        self._free = np.arange(capacity, dtype=np.int32)[::-1].copy()
        self.available = capacity
        self._held: dict[Hashable, list[PageNumbers]] = {}

    def held(self, owner: Hashable) -> int:
        """How many pages an owner has."""
        return sum(map(len, self._held.get(owner, [])))

    def take(self, owner: Hashable, count: int) -> PageNumbers | None:
        """Pages for ``owner``, in addition to what it has; None if there are not so many."""
        if count > self.available:
            return None
        self.available -= count
        pages = self._free[self.available : self.available + count].copy()
        self._held.setdefault(owner, []).append(pages)
        return pages

    def keep_latest(self, owner: Hashable) -> None:
        """Free all pages of an owner but those that it took last."""
        held = self._held.get(owner, [])
        self._put_back(held[:-1])
        del held[:-1]

    def release(self, owner: Hashable) -> None:
        """Free all pages of an owner. Idempotent."""
        self._put_back(self._held.pop(owner, []))

    def _put_back(self, parts: list[PageNumbers]) -> None:
        for pages in parts:
            self._free[self.available : self.available + len(pages)] = pages
            self.available += len(pages)


class FeaturePages:
    """The kept maps of a program as rows on the device, within ``max_bytes``.

    ``maps``: by name, [rows, C]; a row is one feature pixel. Behind the pages lie a spare one, for what is
    computed to fill up a batch, and two constant rows, zero and the lowest value, which stand for what is
    outside of a map. They take memory when the first features come: an engine that stands by leaves the
    device's memory alone.
    """

    def __init__(
        self, program: TileProgram, max_bytes: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.program, self.device, self.dtype = program, device, dtype
        self.page_bytes = page_bytes(program, dtype)
        self.ledger = PageLedger(max(0, max_bytes // self.page_bytes - 1))
        self.maps: dict[str, Tensor] = {}

    @property
    def spare(self) -> int:
        """The page that belongs to nobody."""
        return self.ledger.capacity

    def zero_row(self, stride: int) -> int:
        """The row that is zero in every map of a stride; the next one is the lowest value."""
        return (self.ledger.capacity + 1) * self.program.tile(stride) ** 2

    def take_memory(self) -> None:
        """Set all memory aside, if it is not yet. All of it or nothing."""
        if self.maps:
            return
        maps = {}
        for node in self.program.kept:
            zero = self.zero_row(node.stride)
            rows = torch.empty(zero + 2, node.channels, device=self.device, dtype=self.dtype)
            rows[zero:].zero_()
            rows[zero + 1 :].fill_(torch.finfo(self.dtype).min)
            maps[node.name] = rows
        self.maps.update(maps)


def page_bytes(program: TileProgram, dtype: torch.dtype) -> int:
    """Of one tile in every kept map."""
    return sum(program.tile(node.stride) ** 2 * node.channels for node in program.kept) * dtype.itemsize


def frame_bytes(program: TileProgram, size: tuple[int, int], dtype: torch.dtype) -> int:
    """Of all tiles of a frame of a size (height, width)."""
    rows, columns = program.bins(*size)
    return rows * columns * page_bytes(program, dtype)
