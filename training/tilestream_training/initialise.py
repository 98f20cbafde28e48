"""Start an encoder from ImageNet weights whose batch norm was folded into the convolutions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def initialise_from_folded(encoder: nn.Module, path: Path, images: Tensor) -> int:
    """Load folded convolutions (npz of ``NAME.weight`` and ``NAME.bias``) into an encoder with batch norms.

    A folded network has no statistics, and batch norm in training mode would wipe out the scale that
    its convolutions carry. So every batch norm behind a loaded convolution is set to undo its own
    normalisation on ``images`` (float [N, 3, H, W], normalised): gamma and the running variance from the
    activations' spread, beta from their mean plus the folded bias. In evaluation mode the result equals the
    folded network; in training mode nearly so. Returns the number of convolutions loaded.
    """
    arrays = dict(np.load(path))
    modules = dict(encoder.named_modules())
    handles = []
    loaded = 0
    for name in sorted(key.removesuffix(".weight") for key in arrays if key.endswith(".weight")):
        conv, norm = modules[name], modules[_norm_name(name)]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"]))
        bias = torch.from_numpy(arrays[f"{name}.bias"])
        handles.append(norm.register_forward_pre_hook(_calibration(bias)))
        loaded += 1
    encoder.eval()
    with torch.no_grad():
        encoder(images)
    for handle in handles:
        handle.remove()
    encoder.train()
    return loaded


def _norm_name(conv: str) -> str:
    """The batch norm behind a convolution, in torchvision's naming."""
    if conv.endswith("downsample.0"):
        return conv[:-1] + "1"
    head, _, leaf = conv.rpartition("conv")
    return f"{head}bn{leaf}"


def _calibration(bias: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None and module.running_var is not None
        x = inputs[0].detach().double()
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
        with torch.no_grad():
            module.running_mean.copy_(mean)
            module.running_var.copy_(variance)
            module.weight.copy_((variance + module.eps).sqrt())
            module.bias.copy_(bias + mean)

    return hook
