"""The operations of ``kernels`` in plain torch: for devices without Triton, and to check the kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.resident.sampling import continued, resampled, sample
from tilestream.engine.resident.search import FOR_LABELS, Search

LEVELS, PATCH, ITERATIONS = 4, 8, 12
"""Of the search: levels of the pyramid, pixels on a side of a patch, steps per level."""

_LUMA = (9798, 19235, 3735)  # Rec. 601 in 1 / 2^15, as OpenCV has it


def luma(pixels: Tensor, scale: int) -> Tensor:
    """Luma (Rec. 601) uint8 [N, ceil(H / scale), ceil(W / scale)] of pixels uint8 [N, 3, H, W], averaged.

    The edge is replicated where an average lacks pixels.
    """
    rows, columns = (-(-side // scale) for side in pixels.shape[2:])
    red, green, blue = pixels.int().unbind(dim=1)
    gray = (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2] + (1 << 14)) >> 15
    gray = continued(gray[:, None].float(), rows * scale, columns * scale)
    return (F.avg_pool2d(gray, scale)[:, 0] + 0.5).floor().to(torch.uint8)


def flow(previous: Tensor, current: Tensor, expected: Tensor, how: Search = FOR_LABELS) -> Tensor:
    """Dense inverse search, coarse to fine (Kroeger et al., arXiv 1603.03590): float32 [N, 2, h, w] (x, y).

    What is at a pixel of ``current`` was at that pixel plus its flow in ``previous``. Both float32 [N, h, w];
    ``expected`` as the result: where the search begins.
    """

    def level(previous: Tensor, current: Tensor, start: Tensor) -> Tensor:
        return densified(previous, current, search(previous, current, start, how), how.spacing)

    return coarse_to_fine(previous, current, expected, level)


def coarse_to_fine(
    previous: Tensor,
    current: Tensor,
    expected: Tensor,
    level: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Flow as :func:`flow` has it, of a pyramid: ``level`` improves the flow [N, 2, h, w] of one size.

    It gets both pictures of that size, [N, 1, h, w], and where the search begins.
    """
    before, now = [previous[:, None]], [current[:, None]]
    for _ in range(LEVELS - 1):
        before.append(F.avg_pool2d(before[-1], 2, ceil_mode=True))
        now.append(F.avg_pool2d(now[-1], 2, ceil_mode=True))
    found = F.interpolate(expected, size=now[-1].shape[2:], mode="area") / 2 ** (LEVELS - 1)
    for earlier, later in zip(reversed(before), reversed(now), strict=True):
        if found.shape[2:] != later.shape[2:]:
            found = 2 * F.interpolate(found, size=later.shape[2:], mode="bilinear", align_corners=False)
        found = level(earlier, later, found)
    return found


def search(previous: Tensor, current: Tensor, start: Tensor, how: Search) -> Tensor:
    """Displacements float32 [N, 2, rows, columns] of the patches of one level.

    ``previous``, ``current``: float32 [N, 1, h, w]; ``start``: float32 [N, 2, h, w]. Of the starts at a
    patch's centre and beside it the one that fits best is improved.
    """
    count, _, height, width = current.shape
    spacing, device = how.spacing, current.device
    rows, columns = grid(height, width, spacing)
    span = torch.arange(PATCH, device=device)
    y = (torch.arange(rows, device=device) * spacing)[:, None, None, None] + span[:, None]
    x = (torch.arange(columns, device=device) * spacing)[None, :, None, None] + span
    y, x = y.expand(rows, columns, PATCH, PATCH), x.expand(rows, columns, PATCH, PATCH)
    clamped = (y.clamp(max=height - 1), x.clamp(max=width - 1))
    template = current[:, 0][:, clamped[0], clamped[1]].flatten(3)
    gradient_x, gradient_y = (slope[:, clamped[0], clamped[1]].flatten(3) for slope in _slopes(current[:, 0]))
    if how.means:
        gradient_x, gradient_y = _centred(gradient_x), _centred(gradient_y)
    a = (gradient_x * gradient_x).sum(3) + 1e-2
    b = (gradient_x * gradient_y).sum(3)
    d = (gradient_y * gradient_y).sum(3) + 1e-2
    determinant = torch.maximum(a * d - b * b, 1e-2 * (a + d) - 1e-4)  # it is no less, but for rounding
    place = (y.flatten(2).float(), x.flatten(2).float())

    def left(u: Tensor, v: Tensor) -> Tensor:
        error = _looked_up(previous, place[0] + v[..., None], place[1] + u[..., None]) - template
        return _centred(error) if how.means else error

    centre_y = torch.arange(rows, device=device)[:, None] * spacing + PATCH // 2
    centre_x = torch.arange(columns, device=device)[None] * spacing + PATCH // 2
    best_u = best_v = torch.zeros((count, rows, columns), device=device)
    best = torch.full_like(best_u, torch.inf)
    for down, right in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)):
        at_y = (centre_y + down * spacing).clamp(0, height - 1).expand(rows, columns)
        at_x = (centre_x + right * spacing).clamp(0, width - 1).expand(rows, columns)
        u, v = start[:, 0][:, at_y, at_x], start[:, 1][:, at_y, at_x]
        misfit = left(u, v).square().sum(3)
        better = misfit < best
        best_u, best_v = torch.where(better, u, best_u), torch.where(better, v, best_v)
        best = torch.where(better, misfit, best)
    u, v = best_u, best_v
    for _ in range(ITERATIONS):
        error = left(u, v)
        p, q = (gradient_x * error).sum(3), (gradient_y * error).sum(3)
        u, v = u - (d * p - b * q) / determinant, v - (a * q - b * p) / determinant
    near = (u - best_u).square() + (v - best_v).square() <= PATCH * PATCH
    better = near & (left(u, v).square().sum(3) <= best)  # false where u or v is not a number
    return torch.stack((torch.where(better, u, best_u), torch.where(better, v, best_v)), dim=1)


def densified(previous: Tensor, current: Tensor, patches: Tensor, spacing: int) -> Tensor:
    """Flow float32 [N, 2, h, w] of every pixel: the mean of the patches that cover it, weighted by their fit.

    ``previous``, ``current``: float32 [N, 1, h, w]; ``patches``: float32 [N, 2, rows, columns].
    """
    height, width = current.shape[2:]
    rows, columns = patches.shape[2:]
    device = current.device
    y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]
    total, weights = torch.zeros_like(current).expand(-1, 2, -1, -1).clone(), torch.zeros_like(current)
    reach = -(-PATCH // spacing)
    for up in range(reach):
        for back in range(reach):
            row, column = y // spacing - up, x // spacing - back
            inside = (row >= 0) & (column >= 0) & (row < rows) & (column < columns)
            inside = inside & (y - row * spacing < PATCH) & (x - column * spacing < PATCH)
            at = patches[:, :, row.clamp(0, rows - 1), column.clamp(0, columns - 1)]
            error = sample(previous, at) - current
            weight = torch.where(inside, 1.0 / error.abs().clamp(min=1.0), 0.0)
            total, weights = total + weight * at, weights + weight
    return total / weights.clamp(min=1e-6)


def grid(height: int, width: int, spacing: int) -> tuple[int, int]:
    """Rows and columns of the patches of a level: the last ones may reach beyond it."""
    return tuple(max(0, -(-(side - PATCH) // spacing)) + 1 for side in (height, width))  # type: ignore[return-value]


def moved_labels(table: Tensor, slots: Tensor, displacement: Tensor, scale: int, step: int = 1) -> Tensor:
    """Labels uint8 [n, H, W] of the table [S, H, W] at rows ``slots``, moved: the nearest, border continued.

    ``displacement``: float32 [n, 2, h, w] (x, y), in pixels of ``scale`` image pixels, to where labels come
    from. ``step`` > 1: only every ``step``-th pixel in both directions, from ``step // 2`` on.
    """
    height, width = table.shape[1:]
    fine = resampled(displacement, scale, 1, height, width) * scale
    begin = step // 2
    fine = fine[:, :, begin::step, begin::step]
    y = torch.arange(begin, height, step, device=table.device)[:, None]
    x = torch.arange(begin, width, step, device=table.device)
    row = torch.floor(y + fine[:, 1] + 0.5).clamp(0, height - 1).long()
    column = torch.floor(x + fine[:, 0] + 0.5).clamp(0, width - 1).long()
    return table[slots[:, None, None], row, column]


def best_labels(scores: Tensor, factor: int, out: Tensor) -> None:
    """The best class of scores [n, C, h, w] upsampled by ``factor`` (bilinear, half-pixel centres).

    Into ``out``, uint8 [n, H, W], the top left part of it.
    """
    large = F.interpolate(scores.float(), scale_factor=factor, mode="bilinear", align_corners=False)
    out.copy_(large.max(dim=1).indices[:, : out.shape[1], : out.shape[2]].to(torch.uint8))


def normalized(pixels: Tensor, rows: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """Pixels uint8 [N, 3, H, W] at ``rows`` [n], times ``scale`` [3] plus ``shift`` [3], padded with 0.

    Into the first n of ``out``, [m, 3, H', W'].
    """
    height, width = pixels.shape[2:]
    values = pixels[rows].float() * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
    target = out[: len(rows)]
    target.zero_()
    target[:, :, :height, :width] = values.to(out.dtype)


def label_runs(labels: Tensor, capacity: int) -> Tensor:
    """Where labels uint8 [n, H, W] change in raster order: int32 [n + capacity], see ``resident.runs``."""
    flat = labels.flatten(1)
    new = torch.ones_like(flat, dtype=torch.bool)
    new[:, 1:] = flat[:, 1:] != flat[:, :-1]
    frame, position = new.nonzero(as_tuple=True)
    found = (flat[frame, position].int() << 24) | position.int()
    buffer = torch.zeros(len(labels) + capacity, dtype=torch.int32, device=labels.device)
    buffer[: len(labels)] = new.sum(dim=1).cumsum(0)
    kept = found[:capacity]
    buffer[len(labels) : len(labels) + len(kept)] = kept
    return buffer


def _centred(patches: Tensor) -> Tensor:
    """Patches [..., pixels] less the mean of each."""
    return patches - patches.mean(dim=-1, keepdim=True)


def _slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of [N, h, w] along x and y; half of a one-sided one at the border."""
    wide = F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2, (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2


def _looked_up(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Maps [N, 1, h, w] at positions [N, rows, columns, pixels], bilinear."""
    height, width = maps.shape[2:]
    where = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    return F.grid_sample(
        maps, where.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False
    ).view(x.shape)
