"""The dense path: whole frames through the whole network. Also the reference for everything partial."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from tilestream.engine.fused import pack_convolutions
from tilestream.messages import UInt8Array

_TYPICAL_SIZE = (384, 512)  # height, width; what packed weights are laid out for


@dataclass(frozen=True, slots=True)
class DenseResult:
    """``labels``: uint8 [N, H, W]. ``confidence``: uint8 [N, H, W] or None. Seconds of the two stages."""

    labels: UInt8Array
    confidence: UInt8Array | None
    backbone_seconds: float
    head_seconds: float


class DenseExecutor:
    """Runs a segmentation network on batches of equally large frames.

    ``model``: an eval-mode module with ``stride``, ``mean`` and ``std`` (see ``load_model``).
    """

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.stride = int(model.stride)  # type: ignore[arg-type]
        self.device, self.dtype = device, dtype
        # fuse() folds every batch norm that follows a convolution into it.
        network = fuse(copy.deepcopy(model).eval().float())
        self.network = network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            example = torch.zeros(1, 3, *_TYPICAL_SIZE, dtype=dtype).to(memory_format=torch.channels_last)
            with torch.inference_mode():
                self.network = pack_convolutions(self.network, example)
        # ((x / 255) - mean) / std as one multiply-add.
        std = torch.tensor(model.std, device=device).view(1, 3, 1, 1)
        mean = torch.tensor(model.mean, device=device).view(1, 3, 1, 1)
        self._scale, self._shift = 1.0 / (255.0 * std), -mean / std

    @torch.inference_mode()
    def run(self, images: list[UInt8Array], want_confidence: bool = False) -> DenseResult:
        """Segment frames, uint8 [H, W, 3] RGB, all of one size."""
        started = time.perf_counter()
        height, width = images[0].shape[:2]
        logits = self.network(self._to_input(images))[..., :height, :width]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        middle = time.perf_counter()
        labels = logits.argmax(dim=1).to(torch.uint8)
        confidence = _margin(logits).cpu().numpy() if want_confidence else None
        result = labels.cpu().numpy()
        return DenseResult(result, confidence, middle - started, time.perf_counter() - middle)

    def _to_input(self, images: list[UInt8Array]) -> Tensor:
        """Normalised input [N, 3, H', W'], padded at the bottom and on the right to the network's stride."""
        height, width = images[0].shape[:2]
        stacked = np.stack(images) if len(images) > 1 else images[0][None]
        x = torch.from_numpy(stacked).to(self.device).permute(0, 3, 1, 2)
        x = torch.addcmul(self._shift, x, self._scale).to(self.dtype)
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        return x.contiguous(memory_format=torch.channels_last)


def _margin(logits: Tensor) -> Tensor:
    """uint8 [N, H, W]: softmax margin of the best class over the second, 255 = certain."""
    top = F.softmax(logits.float(), dim=1).topk(2, dim=1).values
    return ((top[:, 0] - top[:, 1]) * 255.0).round().to(torch.uint8)
