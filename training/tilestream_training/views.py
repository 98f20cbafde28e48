"""Random views of stills: what a training step sees, decided by the seed and the step alone.

Drawn on the host as a few numbers a view, and cut on the device, all views of a batch at once: how many
calls that takes depends on nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import IGNORE_LABEL
from tilestream_training.stills import SMOOTH_BELOW, SOFT_STRIDE, Stills

_GREY = (0.299, 0.587, 0.114)
_LIGHT = 8  # numbers of a view's light, see `_draw_light`
_NEARLY_BLACK = 1e-4  # the slope of a power is without bounds at 0


@dataclass(frozen=True, slots=True)
class Views:
    """``images``: float32 [N, 3, h, w], RGB in 0..1, the mean colour beyond a still. ``labels``: int64
    [N, h, w], ignored there. ``soft``: float32 [N, C, h / 4, w / 4], adding up to 1 where they are known.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None


def draw_views(
    stills: Stills,
    batch: int,
    options: AugmentOptions,
    mean: Tensor,
    seed: int,
    step: int,
    focus_share: float = 0.5,
) -> Views:
    """A batch of views of the stills, on their device.

    ``mean``: float [1, 3, 1, 1], the colour that the engine pads frames with. In a share ``focus_share`` of
    the views, a class is drawn first and the view put on a pixel of it.
    """
    rng = np.random.default_rng((seed, step))
    device, (h, w) = stills.images.device, options.crop
    drawn = np.stack([_draw_view(stills, options, rng, focus_share) for _ in range(batch)])
    picks = (rng.random((batch, stills.classes)) < 0.5) & (rng.random((batch, 1)) < options.mix)
    numbers = torch.from_numpy(np.concatenate([drawn, picks], axis=1).astype(np.float32)).to(device)
    index, smooth, limits = numbers[:, 0].long(), numbers[:, 1].long(), numbers[:, 2:4]
    theta, light = numbers[:, 4:10].view(batch, 2, 3), numbers[:, 10 : 10 + _LIGHT]
    grid = F.affine_grid(theta, [batch, 1, h, w], align_corners=False)
    images = _sampled(stills.images[index, smooth].float() / 255.0, grid)
    labels = (IGNORE_LABEL - stills.labels[index].float())[:, None]
    labels = (IGNORE_LABEL - _sampled(labels, grid, "nearest")[:, 0]).long()
    if options.jitter:
        generator = torch.Generator(device).manual_seed((seed << 32) + step)
        images = _lit(images, light, generator)
    inside = ((grid >= -1) & (grid <= limits.view(batch, 1, 1, 2))).all(dim=-1)[:, None]
    images = torch.where(inside, images, mean)
    soft = None
    if stills.soft is not None:
        coarse = F.affine_grid(theta, [batch, 1, h // SOFT_STRIDE, w // SOFT_STRIDE], align_corners=False)
        soft = _sampled(stills.soft[index].float(), coarse)
    return _mixed(Views(images, labels, soft), numbers[:, 10 + _LIGHT :] > 0)


def _draw_view(
    stills: Stills, options: AugmentOptions, rng: np.random.Generator, focus_share: float
) -> npt.NDArray[np.float64]:
    """Still, whether it is the smooth one, where the still ends, the 2x3 matrix of its grid, its light."""
    (h, w), (height, width) = options.crop, stills.size
    first, end = stills.ranges[int(rng.choice(len(stills.ranges), p=stills.shares))]
    index, place = int(rng.integers(first, end)), None
    if rng.random() < focus_share:
        present = np.flatnonzero(stills.has[first:end].any(axis=0))
        if len(present):
            label = int(rng.choice(present))
            index = first + int(rng.choice(np.flatnonzero(stills.has[first:end, label])))
            place = stills.places[index, label, int(rng.integers(stills.places.shape[2]))]
    zoom = math.exp(rng.uniform(*np.log(options.scale)))
    stretch = math.exp(rng.uniform(-0.1, 0.1))
    window = np.array([h / (zoom / stretch), w / (zoom * stretch)])  # pixels of the still
    size = stills.sizes[index]
    if place is None:
        centre = rng.uniform(0, 1, 2) * size
    else:
        centre = place + 0.5 + window * rng.uniform(-0.3, 0.3, 2)
    # The window stays inside the still, or the still inside the window where that is the larger one.
    slack = np.abs(size - window) / 2
    cy, cx = np.clip(centre, size / 2 - slack, size / 2 + slack)
    angle = rng.uniform(-options.rotation, options.rotation)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    ay, ax = window / (height, width)
    cosine, sine = math.cos(angle), math.sin(angle)
    theta = (
        flip * ax * cosine, -ax * sine * h / w, 2 * cx / width - 1,
        flip * ay * sine * w / h, ay * cosine, 2 * cy / height - 1,
    )  # fmt: skip
    limits = (2 * size[1] / width - 1, 2 * size[0] / height - 1)
    smooth = zoom < SMOOTH_BELOW or rng.random() < 0.2 * options.jitter
    light = _draw_light(options.jitter, rng)
    return np.array([index, smooth, *limits, *theta, *light], dtype=np.float64)


def _draw_light(strength: float, rng: np.random.Generator) -> list[float]:
    """Gamma, contrast, offset, a cast of three colours, saturation, now and then noise."""
    return [
        math.exp(rng.uniform(-0.4, 0.35) * strength),
        1 + rng.uniform(-0.3, 0.3) * strength,
        rng.uniform(-0.08, 0.1) * strength,
        *(1 + rng.uniform(-0.1, 0.1, 3) * strength),
        1 + rng.uniform(-0.6, 0.4) * strength,
        rng.uniform(0, 0.035) * strength * (rng.random() < 0.25),
    ]


def _sampled(values: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return F.grid_sample(values, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _lit(x: Tensor, light: Tensor, generator: torch.Generator) -> Tensor:
    """``x``: float [N, 3, h, w] in 0..1; ``light``: float [N, 8], as `_draw_light` says."""
    gamma, contrast, offset, *_ = (column.view(-1, 1, 1, 1) for column in light.unbind(dim=1))
    saturation, noise = (column.view(-1, 1, 1, 1) for column in light[:, 6:].unbind(dim=1))
    x = x.clamp_min(_NEARLY_BLACK).pow(gamma)
    x = (x * contrast + (0.5 - 0.5 * contrast + offset)) * light[:, 3:6].view(-1, 3, 1, 1)
    grey = (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    speckle = torch.randn(grey.shape, generator=generator, device=x.device)
    return (torch.lerp(grey, x, saturation) + noise * speckle).clamp_(0.0, 1.0)


def _mixed(views: Views, picks: Tensor) -> Views:
    """Some classes of the view before pasted in (Olsson et al., "ClassMix", arXiv 2007.07936).

    ``picks``: bool [N, C], the classes that each view takes.
    """
    others = views.labels.roll(1, dims=0)
    known = F.pad(picks, (0, 1))  # nothing is taken of what is ignored
    taken = others.clamp_max(picks.shape[1]).flatten(1)
    mask = known.gather(1, taken).view_as(others)
    labels = torch.where(mask, others, views.labels)
    images = torch.where(mask[:, None], views.images.roll(1, dims=0), views.images)
    if views.soft is None:
        return Views(images, labels, None)
    centre = SOFT_STRIDE // 2
    coarse = mask[:, None, centre::SOFT_STRIDE, centre::SOFT_STRIDE]
    return Views(images, labels, torch.where(coarse, views.soft.roll(1, dims=0), views.soft))
