"""Training losses. Logits are float [N, C, h, w]; labels int64 [N, H, W] with IGNORE_LABEL for void."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream_training.datasets.base import IGNORE_LABEL


def class_weights(pixel_counts: Tensor, power: float = 0.5, limit: float = 5.0) -> Tensor:
    """Weights, float [C]: rarer classes weigh more, by frequency**-power, at most ``limit``."""
    share = pixel_counts.double() / pixel_counts.sum()
    weights = share.clamp_min(1e-6) ** -power
    weights = weights / (weights * share).sum()
    return weights.clamp(max=limit).float()


def sampled_labels(labels: Tensor, size: tuple[int, int], offset: tuple[int, int]) -> Tensor:
    """Every k-th label from ``offset`` on, so that a loss at reduced resolution needs no full-size logits."""
    step_y, step_x = labels.shape[-2] // size[0], labels.shape[-1] // size[1]
    return labels[:, offset[0] % step_y :: step_y, offset[1] % step_x :: step_x]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Class-weighted cross entropy over the pixels that are not ignored; 0 where all are."""
    total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE_LABEL, reduction="sum")
    weighed = F.pad(weights, (0, 1))[labels.clamp_max(len(weights))]  # ignored pixels weigh nothing
    return total / weighed.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def soft_divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Mean KL divergence to ``target``, probabilities [N, C, h, w], where those are known; 0 where nowhere.

    They are known where they add up to more than a half: beyond a still they are 0.
    """
    known = target.sum(dim=1) > 0.5
    divergence = (torch.xlogy(target, target) - target * F.log_softmax(logits, dim=1)).sum(dim=1)
    return (divergence * known).sum() / known.sum().clamp_min(1)


def distillation(logits: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Mean KL divergence to the teacher's softened classes (Hinton et al., arXiv 1503.02531)."""
    target = F.softmax(teacher / temperature, dim=1)
    divergence = F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="none").sum(dim=1)
    return divergence.mean() * temperature**2


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """A convex surrogate of the mean IoU over the classes present (Berman et al., arXiv 1705.08790).

    All classes at once and ignored pixels with an error of 0, so that nothing waits for the device.
    """
    classes = logits.shape[1]
    probabilities = F.softmax(logits, dim=1).transpose(0, 1).reshape(classes, -1)
    flat = labels.reshape(-1)
    valid = flat != IGNORE_LABEL
    truth = (flat == torch.arange(classes, device=flat.device)[:, None]).float()
    errors, order = torch.sort((truth - probabilities).abs() * valid, dim=1, descending=True)
    gradient = _lovasz_gradient(truth.gather(1, order), valid.float()[order])
    present = truth.any(dim=1).float()
    return ((errors * gradient).sum(dim=1) * present).sum() / present.sum().clamp_min(1)


def _lovasz_gradient(truth: Tensor, valid: Tensor) -> Tensor:
    """Gradient of the Lovasz extension of the Jaccard loss with respect to sorted errors, a class a row."""
    total = truth.sum(dim=1, keepdim=True)
    intersection = total - truth.cumsum(dim=1)
    union = total + (valid - truth).cumsum(dim=1)
    jaccard = 1.0 - intersection / union.clamp_min(1)
    return torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
