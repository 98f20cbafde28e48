"""Labels at full resolution from logits at a lower one, without interpolating where the answer is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.lowering.program import Node, Upsampling


def upsampled_labels(logits: Tensor, factor: int) -> Tensor:
    """The best class of bilinearly upsampled logits (``align_corners=False``).

    Returns uint8 [N, h * factor, w * factor]. ``logits``: [N, C, h + 2, w + 2], with one more row and column
    on every side. Where all four neighbours of a position have the same best class, that class is the best
    of every blend of them; only the other cells are interpolated. Both ways are exact up to rounding.
    """
    count, classes, rows, columns = logits.shape
    flat = logits.permute(0, 2, 3, 1).reshape(-1, classes)
    best = flat.max(dim=1).indices.to(torch.uint8).view(count, rows, columns)
    first = best[:, :-1, :-1]
    same = (first == best[:, 1:, :-1]) & (first == best[:, :-1, 1:]) & (first == best[:, 1:, 1:])
    cells = (count, rows - 1, columns - 1)
    labels = first[:, :, None, :, None].expand(count, rows - 1, factor, columns - 1, factor).contiguous()
    mixed = torch.nonzero(~same.view(-1)).view(-1)
    if len(mixed):
        image, row, column = torch.unravel_index(mixed, cells)
        corner = (image * rows + row) * columns + column
        corners = torch.stack([corner, corner + 1, corner + columns, corner + columns + 1], dim=1)
        values = flat.index_select(0, corners.view(-1)).view(-1, 4, classes)
        blended = torch.matmul(_blend(factor).to(logits.device, logits.dtype), values)
        chosen = blended.max(dim=2).indices.to(torch.uint8)
        labels[image, row, :, column, :] = chosen.view(-1, factor, factor)
    begin = factor - factor // 2  # cells begin half a feature before the first wanted position
    whole = labels.view(count, (rows - 1) * factor, (columns - 1) * factor)
    return whole[:, begin : begin + (rows - 2) * factor, begin : begin + (columns - 2) * factor]


def is_plain_upsampling(node: Node) -> bool:
    """Whether :func:`upsampled_labels` may stand in for this last node of a network."""
    operation = node.operation
    if not isinstance(operation, Upsampling):
        return False
    return operation.mode == "bilinear" and not operation.align_corners and operation.factor > 1


def margin(logits: Tensor) -> Tensor:
    """uint8 [N, H, W]: softmax margin of the best class over the second, 255 = certain."""
    top = F.softmax(logits.float(), dim=1).topk(2, dim=1).values
    return ((top[:, 0] - top[:, 1]) * 255.0).round().to(torch.uint8)


def with_rim(logits: Tensor) -> Tensor:
    """[N, C, h, w] -> [N, C, h + 2, w + 2], its border repeated, as bilinear interpolation does."""
    return F.pad(logits.float(), (1, 1, 1, 1), mode="replicate").to(logits.dtype)


def _blend(factor: int) -> Tensor:
    """[factor * factor, 4]: weights of a cell's corners at every position in it."""
    step = (torch.arange(factor) + factor // 2 + 0.5) / factor - 0.5
    one = torch.stack([1 - step, step], dim=1)
    return torch.einsum("ya,xb->yxab", one, one).reshape(factor * factor, 4)
