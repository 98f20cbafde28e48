"""Imported once, in the process that engine processes are forked from: what every start does the first time.

Lowering any network makes torch import a thousand modules of its compiler. Nothing here may start a
thread or touch a device: neither survives a fork.
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

import tilestream.engine.engine  # noqa: F401 (for its imports)
from tilestream.engine.lowering.lower import lower


class _Smallest(nn.Module):
    """A residual block, which is the least that can be lowered."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = nn.Conv2d(3, 4, 3, 2, 1)
        self.block = nn.Conv2d(4, 4, 3, 1, 1)
        self.relu = nn.ReLU()
        self.end = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.begin(x))
        return self.end(self.relu(x + self.block(x)))  # type: ignore[no-any-return]


with suppress(ImportError):  # where it is installed, torch.fx takes it; else something without threads
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no progress is shown, but the monitor's thread would be started
lower(_Smallest().eval(), 64)

if torch.version.cuda is not None:  # the JPEG decoder's, where it is installed and fits
    with suppress(ImportError, OSError, RuntimeError):
        import torchvision.io  # noqa: F401
