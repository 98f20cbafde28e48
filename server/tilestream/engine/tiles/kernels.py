"""What is run on packed tiles: stock convolutions and matrix products, laid out once for the device.

Packed tiles are [n, C, h, w] in channels-last order, which is the same memory as rows [n * h * w, C].
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream.engine.dense.packed import PackedConv2d

_TYPICAL_ROWS = 768  # what packed weights of matrix products are laid out for
_TYPICAL_TILES = 12  # the same for convolutions


def to_rows(packed: Tensor) -> Tensor:
    """[n, C, h, w] -> [n * h * w, C], without copying where it is channels-last."""
    return packed.permute(0, 2, 3, 1).reshape(-1, packed.shape[1]).contiguous()


def to_tiles(rows: Tensor, height: int, width: int) -> Tensor:
    """[n * h * w, C] -> [n, C, h, w], channels-last, without copying."""
    return rows.view(-1, height, width, rows.shape[1]).permute(0, 3, 1, 2)


class RowProduct:
    """A convolution as one product over gathered rows [m, taps * C] -> [m, C'], with a ReLU if ``relu``."""

    def __init__(self, conv: nn.Conv2d, relu: bool, device: torch.device, dtype: torch.dtype) -> None:
        weight = conv.weight.detach().permute(0, 2, 3, 1).flatten(1).to(device, dtype).contiguous()
        self._relu = relu
        self._bias = None if conv.bias is None else conv.bias.detach().to(device, dtype)
        self._packed = device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self._packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)
        self._weight: Tensor = weight

    def __call__(self, rows: Tensor) -> Tensor:
        if self._packed:
            attribute = "relu" if self._relu else "none"
            run = torch.ops.mkldnn._linear_pointwise
            return run(rows, self._weight, self._bias, attribute, [], "")  # type: ignore[no-any-return]
        result = F.linear(rows, self._weight, self._bias)
        return result.relu_() if self._relu else result


class TileConvolution:
    """A convolution without padding of packed tiles that bring their own rim."""

    def __init__(self, conv: nn.Conv2d, relu: bool, device: torch.device, dtype: torch.dtype) -> None:
        bare = copy.deepcopy(conv)
        bare.padding, bare.padding_mode = (0, 0), "zeros"
        bare = bare.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._relu = False
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            self._run: nn.Module = PackedConv2d(bare, relu, _TYPICAL_TILES)
        else:
            self._run, self._relu = bare, relu

    def __call__(self, tiles: Tensor) -> Tensor:
        result: Tensor = self._run(tiles)
        if self._relu:
            result = result.relu_()
        return result.contiguous(memory_format=torch.channels_last)
