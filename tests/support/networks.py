"""Small networks with lively weights: batch norms that do something, so that folding them is tested."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import nn

from tilestream.models import build_model, save_model
from tilestream.models.registry import WeightsInfo

CLASSES = tuple(f"class{index}" for index in range(5))
PALETTE = tuple((40 * index, 255 - 40 * index, 7 * index) for index in range(5))


def lively(name: str, seed: int = 0) -> nn.Module:
    """A network of the caller's own."""
    return copy.deepcopy(_lively(name, seed))


@cache
def _lively(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(name, len(CLASSES))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0.0, 0.2)
    return model.eval().requires_grad_(False)


def write_weights(path, name: str = "ddrnet23_slim", seed: int = 0):
    save_model(lively(name, seed), path, WeightsInfo(name, CLASSES, PALETTE))
    return path
