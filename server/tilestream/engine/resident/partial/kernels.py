"""What the partial pass does to rows of features, in plain torch; what each does in one go on a GPU.

``rows`` of a map are [R, C], a row a feature pixel. A *table* is int32 [m, taps]: the rows that each of m
outputs reads. Where results go is int32 [m] too; None means that they are packed, output i in row i. This
is the reference; ``triton_rows`` has each as one launch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tilestream.engine.resident.partial.tile_sets import DeviceTiles

BORDERS = ("zeros", "lowest", "replicate", "reflect", "circular")


@dataclass(eq=False, slots=True)
class Weights:
    """Of a convolution: ``taps`` [taps, C, C'] in the working precision, ``bias`` float32 [C']."""

    taps: Tensor
    bias: Tensor


@dataclass(eq=False, slots=True)
class Pattern:
    """Positions around a tile, the same for all: int32 [P] each, relative to its first feature."""

    y: Tensor
    x: Tensor


@dataclass(frozen=True, slots=True)
class Target:
    """Where results go: row ``index`` of ``rows`` [R, C]; packed where ``index`` is None."""

    rows: Tensor
    index: Tensor | None

    def part(self, first: int, count: int) -> Target:
        """Where ``count`` of the results go, from ``first`` on."""
        if self.index is None:
            return Target(self.rows[first : first + count], None)
        return Target(self.rows, self.index[first : first + count])


class RowKernels:
    """The operations, for tensors on any device."""

    def lookup(
        self, references: Tensor, tiles: DeviceTiles, tile: int, pattern: Pattern, border: str, zero_row: int
    ) -> Tensor:
        """Rows at positions around the tiles: int32 [n, P].

        ``references``: int32 [slots + 1, H + 2, W + 2]. ``border``: what stands outside of the map.
        """
        height, width = references.shape[1] - 2, references.shape[2] - 2
        y = _outside(tiles.y[:, None] * tile + pattern.y, height, border).clamp_(-1, height).add_(1)
        x = _outside(tiles.x[:, None] * tile + pattern.x, width, border).clamp_(-1, width).add_(1)
        line = tiles.slot.long()[:, None] * (height + 2) + y
        rows = references.view(-1).take(line * (width + 2) + x)
        return torch.where(rows == zero_row, zero_row + 1, rows) if border == "lowest" else rows

    def moved(
        self, references: Tensor, remainder: Tensor, slots: Tensor, displacement: Tensor
    ) -> tuple[Tensor, Tensor]:
        """References and remainders of N slots after a motion: int32 [N, H, W] and float32 [N, H, W, 2].

        See ``memory.row_map.RowMap.move``. ``remainder``: float32 [slots + 1, H, W, 2]. ``displacement``:
        float32 [N, H, W, 2].
        """
        count, height, width, _ = displacement.shape
        old = references[:, 1:-1, 1:-1].index_select(0, slots)
        left = remainder.index_select(0, slots)
        # in double precision: rounded differently in every column, halves would tear an even motion apart
        x = displacement[..., 0] + torch.arange(width, dtype=torch.float64, device=old.device)
        y = displacement[..., 1] + torch.arange(height, dtype=torch.float64, device=old.device)[:, None]
        flat = _nearest(y, height) * width + _nearest(x, width)
        there = _at(left.view(count, -1, 2), flat)
        # What lies there is the content of a place up to one feature off: aim beside it.
        column, row = _nearest(x - there[..., 0], width), _nearest(y - there[..., 1], height)
        flat = row * width + column
        off = torch.stack([column - x, row - y], dim=3).float() + _at(left.view(count, -1, 2), flat)
        new = old.view(count, -1).gather(1, flat.view(count, -1)).view(old.shape)
        moving = (displacement != 0).flatten(1).any(dim=1).view(-1, 1, 1)
        return torch.where(moving, new, old), torch.where(moving[..., None], off.clamp_(-1, 1), left)

    def place(self, references: Tensor, remainder: Tensor, tiles: DeviceTiles, tile: int) -> None:
        """Let tiles refer to their pages, in place; their remainders become zero."""
        nobody, height, width = references.shape[0] - 1, references.shape[1] - 2, references.shape[2] - 2
        span = torch.arange(tile, device=references.device)
        y = (tiles.y.long()[:, None] * tile + span)[:, :, None]
        x = (tiles.x.long()[:, None] * tile + span)[:, None, :]
        slot = tiles.slot.long()[:, None, None]
        inside = (y < height) & (x < width) & (slot < nobody)
        # Of those outside, the one place of nobody's slot is written.
        flat = torch.where(
            inside, (slot * (height + 2) + y + 1) * (width + 2) + x + 1, references.numel() - 1
        )
        values = self.own_rows(tiles, tile)
        references.view(-1).scatter_(0, flat.view(-1), values)
        flat = torch.where(inside, (slot * height + y) * width + x, (nobody + 1) * height * width - 1)
        remainder.view(-1, 2).index_fill_(0, flat.view(-1), 0.0)

    def own_rows(self, tiles: DeviceTiles, tile: int) -> Tensor:
        """The rows of the tiles' own pages, int32 [n * tile * tile]."""
        span = torch.arange(tile * tile, dtype=torch.int32, device=tiles.page.device)
        return (tiles.page[:, None] * (tile * tile) + span).view(-1)

    def copy(self, source: Tensor, index: Tensor | None, target: Target) -> None:
        """Copy rows ``index`` (None: all, in order) of ``source`` to ``target``."""
        _write(target, source if index is None else source.index_select(0, index))

    def convolve(
        self,
        source: Tensor,
        table: Tensor | None,
        weights: Weights,
        target: Target,
        relu: bool,
        residual: Target | None = None,
        relu_after: bool = False,
    ) -> None:
        """A convolution of rows, ``source`` [R, C], into ``target``; ``table`` None: of every row by itself.

        ``relu``: of the convolution; then ``residual`` is added, then ``relu_after``. The residual may be
        the target itself.
        """
        taps, channels, results = weights.taps.shape
        rows = source if table is None else source.index_select(0, table.reshape(-1))
        made = rows.view(-1, taps * channels).float() @ weights.taps.view(-1, results).float() + weights.bias
        if relu:
            made.relu_()
        if residual is not None:
            made += residual.rows if residual.index is None else residual.rows.index_select(0, residual.index)
        if relu_after:
            made.relu_()
        _write(target, made.to(source.dtype))

    def blend(self, source: Tensor, table: Tensor, weights: Tensor, target: Target) -> None:
        """Weighted sums of rows. ``table``: [m, taps]. ``weights``: float32 [P, taps], repeated for all m."""
        rows = source.index_select(0, table.view(-1)).view(-1, *weights.shape, source.shape[1]).float()
        _write(target, (rows * weights[..., None]).sum(dim=2).flatten(0, 1).to(source.dtype))

    def image(
        self, pixels: Tensor, tiles: DeviceTiles, bin_size: int, region: tuple[int, int, int, int],
        scale: Tensor, shift: Tensor, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """The normalised frames around the tiles, [n, 3, rows, columns], channels-last; zero outside.

        ``pixels``: uint8 [N, 3, H, W]. ``scale``, ``shift``: float32 [3], what makes x * scale + shift of it.
        """
        top, rows, left, columns = region
        height, width = pixels.shape[2:]
        y = (tiles.y.long()[:, None] * bin_size + top + torch.arange(rows, device=pixels.device))[:, :, None]
        x = (tiles.x.long()[:, None] * bin_size + left + torch.arange(columns, device=pixels.device))[:, None]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        place = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        plane = torch.arange(3, device=pixels.device) + 3 * tiles.frame.long()[:, None]
        index = (plane * (height * width))[:, None, None, :] + place[..., None]
        values = torch.addcmul(shift, pixels.reshape(-1).take(index).float(), scale)
        return (values * inside[..., None]).to(dtype).permute(0, 3, 1, 2)

    def labels(self, source: Tensor, table: Tensor, factor: int, side: int) -> Tensor:
        """The best class of bilinearly upsampled scores, uint8 [n, side * factor, side * factor].

        ``table``: [n, (side + 2) ** 2], the rows of ``source`` [R, classes] with a rim of one.
        """
        rows = source.index_select(0, table.view(-1)).view(-1, side + 2, side + 2, source.shape[1])
        large = F.interpolate(
            rows.permute(0, 3, 1, 2).float(), scale_factor=factor, mode="bilinear", align_corners=False
        )
        return large[:, :, factor:-factor, factor:-factor].max(dim=1).indices.to(torch.uint8)


def _write(target: Target, values: Tensor) -> None:
    if target.index is None:
        target.rows.copy_(values)
    else:
        target.rows.index_copy_(0, target.index.long(), values)


def _outside(position: Tensor, size: int, border: str) -> Tensor:
    """Where positions beyond the map read from."""
    if border == "replicate":
        return position.clamp_(0, size - 1)
    if border == "circular":
        return position.remainder_(size)
    if border == "reflect":
        period = max(2 * (size - 1), 1)
        folded = position.abs_().remainder_(period)
        return torch.minimum(folded, period - folded)
    return position


def _nearest(position: Tensor, size: int) -> Tensor:
    # halves always up: to even, even motion would leave every other feature on the other side
    return (position + 0.5).floor_().clamp_(0, size - 1).long()


def _at(values: Tensor, flat: Tensor) -> Tensor:
    """Of [N, H * W, 2] what lies at flat positions [N, H, W]: [N, H, W, 2]."""
    index = flat.flatten(1)[..., None].expand(-1, -1, 2)
    return values.gather(1, index).view(*flat.shape, 2)
