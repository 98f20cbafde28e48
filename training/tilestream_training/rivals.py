"""The network in a foreign runtime, to compare with: the same job, from uint8 pixels to uint8 labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream.messages import UInt8Array

Contender = Callable[[], UInt8Array]


class FrameToLabels(nn.Module):
    """uint8 [1, H, W, 3] -> uint8 [1, H, W], everything inside the graph."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.stride = network, int(network.stride)  # type: ignore[arg-type]
        self.mean = nn.Buffer(torch.tensor(network.mean).view(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor(network.std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:3]
        x = (image.permute(0, 3, 1, 2).float() / 255.0 - self.mean) / self.std
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        return self.network(x)[..., :height, :width].argmax(dim=1).to(torch.uint8)


def openvino(network: nn.Module, image: UInt8Array, precision: str) -> Contender:
    """OpenVINO, tuned for latency, with as many threads as PyTorch."""
    import openvino as ov

    model = ov.convert_model(FrameToLabels(network).eval(), example_input=torch.from_numpy(image[None]))
    model.reshape([1, *image.shape])
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    batch = image[None]
    return lambda: np.asarray(compiled(batch)[0][0], dtype=np.uint8)
