"""Where things are in frames before and after, over any number of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.motion.warp import chained, displace

_ROUNDS = 3  # of the inversion


class Track:
    """Displacements between any two of some frames in a row, reckoned once each.

    ``flows``: float32 [h, w, 2] (x, y) of every frame but the first one, to the one before it; None where
    nothing has moved.
    """

    def __init__(self, flows: Sequence[Tensor | None]) -> None:
        moved = [flow if flow is not None and flow.numpy().any() else None for flow in flows]
        self._found: dict[tuple[int, int], Tensor | None] = {}
        for index, flow in enumerate(moved, 1):
            self._found[index, index - 1] = flow
            self._found[index - 1, index] = None if flow is None else inverted(flow)

    def displacement(self, frame: int, to: int) -> Tensor | None:
        """Float32 [h, w, 2]: where what is at a place of ``frame`` is in another; None: at the same one."""
        if (frame, to) not in self._found:
            beside = frame + (1 if to > frame else -1)
            step, rest = self._found[frame, beside], self.displacement(beside, to)
            both = rest if step is None else chained(step[None], None if rest is None else [rest])[0]
            self._found[frame, to] = both
        return self._found[frame, to]


def inverted(flow: Tensor) -> Tensor:
    """The flow the other way round, float32 [h, w, 2] like the one given: f(x) = -flow(x + f(x)).

    By fixed-point iteration, which fails only where something is hidden on one side. Labels moved by it are
    as good as those moved by a search of its own, which takes four times as long.
    """
    there = flow.numpy()
    back = -there
    for _ in range(_ROUNDS):
        back = -np.asarray(displace(there, back))
    return torch.from_numpy(back)
