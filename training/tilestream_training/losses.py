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


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """Class-weighted cross entropy over the pixels that are not ignored; 0 where all are."""
    if not (labels != IGNORE_LABEL).any():
        return logits.sum() * 0.0
    return F.cross_entropy(logits, labels, weights, ignore_index=IGNORE_LABEL, label_smoothing=smoothing)


def distillation(logits: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Mean KL divergence to the teacher's softened classes (Hinton et al., arXiv 1503.02531)."""
    target = F.softmax(teacher / temperature, dim=1)
    divergence = F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="none").sum(dim=1)
    return divergence.mean() * temperature**2


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """A convex surrogate of the mean IoU over the classes present (Berman et al., arXiv 1705.08790)."""
    valid = labels != IGNORE_LABEL
    probabilities = F.softmax(logits, dim=1).permute(0, 2, 3, 1)[valid]
    flat = labels[valid]
    losses = []
    for index in torch.unique(flat).tolist():
        foreground = (flat == index).float()
        errors = (foreground - probabilities[:, index]).abs()
        ordered, order = torch.sort(errors, descending=True)
        losses.append(torch.dot(ordered, _lovasz_gradient(foreground[order])))
    return torch.stack(losses).mean() if losses else logits.sum() * 0.0


def _lovasz_gradient(sorted_foreground: Tensor) -> Tensor:
    """Gradient of the Lovasz extension of the Jaccard loss with respect to sorted errors."""
    total = sorted_foreground.sum()
    intersection = total - sorted_foreground.cumsum(0)
    union = total + (1.0 - sorted_foreground).cumsum(0)
    jaccard = 1.0 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
