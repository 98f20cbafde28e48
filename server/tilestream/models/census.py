"""Counts over a network: multiply-accumulates and residual blocks."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tilestream.models import ddrnet, mobilenet, resnet

RESIDUAL_BLOCKS = (resnet.BasicBlock, resnet.Bottleneck, ddrnet.BasicBlock, ddrnet.Bottleneck)


def shadow_of(model: nn.Module) -> nn.Module:
    """The model without its numbers, on the meta device: shapes can be followed through it at no cost."""
    return copy.deepcopy(model).to("meta").eval()


def count_macs(shadow: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of all convolutions of a :func:`shadow_of` a model, for one frame."""
    total = 0

    def add(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.numel() * module.weight[0].numel()

    handles = [m.register_forward_hook(add) for m in shadow.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.no_grad():
            shadow(torch.empty(1, 3, height, width, device="meta", dtype=next(shadow.parameters()).dtype))
    finally:
        for handle in handles:
            handle.remove()
    return total


def count_residual_blocks(model: nn.Module) -> int:
    """Residual blocks of the network: the droppable units of each bin."""
    return sum(
        isinstance(module, RESIDUAL_BLOCKS)
        or (isinstance(module, mobilenet.InvertedResidual) and module.has_skip)
        for module in model.modules()
    )
