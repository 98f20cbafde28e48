"""Memory that two processes share and that grows with what has to go through it."""

from __future__ import annotations

import math
import mmap
import os

import numpy as np

from tilestream.messages import UInt8Array

_ALIGNMENT = 64
_GROWTH = 1 << 20  # bytes; the file grows in whole multiples


class Arena:
    """An anonymous file (Linux) that both sides map; it has no name and goes when the last side is gone.

    Not named shared memory: containers have 64 MB of that by default, and what a killed process leaves
    there stays.
    """

    def __init__(self, file: int | None = None) -> None:
        """``file``: a descriptor of the other side's file, which this object then owns; None makes one."""
        self.file = os.memfd_create("tilestream-frames") if file is None else file
        self._map: mmap.mmap | None = None

    def reserve(self, size: int) -> None:
        """Make it at least ``size`` bytes large. Arrays that exist stay what they are."""
        if size > os.fstat(self.file).st_size:
            os.ftruncate(self.file, -(-size // _GROWTH) * _GROWTH)

    def array(self, offset: int, shape: tuple[int, ...]) -> UInt8Array:
        """The uint8 array of ``shape`` that begins at byte ``offset``; a view."""
        count = math.prod(shape)
        if self._map is None or len(self._map) < offset + count:
            # The old map lives on for as long as arrays refer to it.
            self._map = mmap.mmap(self.file, os.fstat(self.file).st_size)
        return np.frombuffer(self._map, np.uint8, count, offset).reshape(shape)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._map = None
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


def aligned(size: int) -> int:
    """The next offset at which an array should begin."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT
