"""The network behind the learned gate: how much of a place's warped labels would be wrong.

Trained to predict, for every cell of 16 pixels, the share of pixels whose label, warped from the previous
frame, differs from what the segmentation network would say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tilestream.engine.gates.cells import SIGNALS

_WIDTH = 32


class RiskNet(nn.Module):
    """Float [N, len(SIGNALS) + classes, h, w] -> logits [N, h, w] of the share of wrong pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Conv2d(len(SIGNALS) + classes, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 1, 1),
        )

    def forward(self, cells: Tensor) -> Tensor:
        return self.layers(cells)[:, 0]

    @torch.inference_mode()
    def risk(self, cells: Tensor) -> Tensor:
        """Shares of wrong pixels, float32 [N, h, w] in 0..1, of the frames' cells [N, channels, h, w].

        Frame by frame: on a CPU a frame's risk would else depend, by rounding, on who comes with it.
        """
        return torch.cat([torch.sigmoid(self(frame[None])) for frame in cells])
