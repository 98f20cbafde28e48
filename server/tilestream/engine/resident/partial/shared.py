"""What features of all frame sizes share: weights, constants, and memory that the longest unused gives up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import torch

from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.partial.choose import choose_kernels
from tilestream.engine.resident.partial.executor import ResidentExecutor
from tilestream.engine.resident.partial.kernels import RowKernels
from tilestream.engine.resident.partial.pages import FeaturePages, PageNumbers
from tilestream.engine.resident.partial.tables import Patterns


class ResidentProgram:
    """What features of all frame sizes share: a program's weights, memory and constants on the device.

    ``mean``, ``std``: of RGB in 0..1. ``max_bytes``: for the features of all sessions.
    """

    def __init__(
        self,
        program: TileProgram,
        mean: Sequence[float],
        std: Sequence[float],
        max_bytes: int,
        device: torch.device,
        dtype: torch.dtype,
        kernels: RowKernels | None = None,
    ) -> None:
        self.program, self.device, self.dtype = program, device, dtype
        self.kernels = kernels or choose_kernels(device)
        self.pages = FeaturePages(program, max_bytes, device, dtype)
        self.executor = ResidentExecutor(program, device, dtype)
        self.patterns = Patterns(device)
        deviation = torch.tensor(std, dtype=torch.float32)
        self.scale = (1.0 / (255.0 * deviation)).to(device)
        self.shift = (-torch.tensor(mean, dtype=torch.float32) / deviation).to(device)
        self.by_last_use: OrderedDict[Hashable, None] = OrderedDict()  # owners of pages, the oldest first
        self.busy: set[Hashable] = set()
        """Owners that do not have to give way now, whoever asks for room."""
        self.evictions = 0  # to make room for others
        self._features = 0

    def number(self) -> int:
        """Tells owners of one frame size from those of another."""
        self._features += 1
        return self._features

    def touch(self, owner: Hashable) -> None:
        """Its features are in use now."""
        self.by_last_use[owner] = None
        self.by_last_use.move_to_end(owner)

    def release(self, owner: Hashable) -> None:
        """Free all pages of an owner. Idempotent."""
        self.by_last_use.pop(owner, None)
        self.pages.ledger.release(owner)

    def take(self, owner: Hashable, count: int, busy: set[Hashable]) -> PageNumbers | None:
        """Pages for an owner, evicting the longest unused that are not ``busy``; None: there is no room."""
        ledger, busy = self.pages.ledger, busy | self.busy
        while (pages := ledger.take(owner, count)) is None:
            victim = next((each for each in self.by_last_use if each not in busy), None)
            if victim is None:
                return None
            self.release(victim)
            self.evictions += 1
        return pages
