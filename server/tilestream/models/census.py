"""Counts over a network: multiply-accumulates and residual blocks."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tilestream.models import ddrnet, resnet

RESIDUAL_BLOCKS = (resnet.BasicBlock, resnet.Bottleneck, ddrnet.BasicBlock, ddrnet.Bottleneck)


def count_macs(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of all convolutions for one frame of height x width pixels."""
    total = 0

    def add(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.numel() * module.weight[0].numel()

    shadow = copy.deepcopy(model).to("meta").eval()
    for module in shadow.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    with torch.no_grad():
        shadow(torch.empty(1, 3, height, width, device="meta", dtype=next(model.parameters()).dtype))
    return total


def count_residual_blocks(model: nn.Module) -> int:
    """Residual blocks of the network: the droppable units of each bin."""
    return sum(isinstance(module, RESIDUAL_BLOCKS) for module in model.modules())
