"""The operations on rows, each as one launch of a Triton kernel, whatever the tiles and sessions."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from tilestream.engine.resident.partial import triton_kernels
from tilestream.engine.resident.partial.kernels import BORDERS, Pattern, RowKernels, Target, Weights
from tilestream.engine.resident.partial.tile_sets import DeviceTiles
from tilestream.engine.resident.partial.triton_convolution import convolve

_BLOCK = 512


class TritonRowKernels(RowKernels):
    """See :class:`RowKernels`."""

    def lookup(
        self, references: Tensor, tiles: DeviceTiles, tile: int, pattern: Pattern, border: str, zero_row: int
    ) -> Tensor:
        height, width = references.shape[1] - 2, references.shape[2] - 2
        found = references.new_empty(tiles.padded, len(pattern.y))
        triton_kernels.lookup[_grid(found)](
            references, tiles.slot, tiles.y, tiles.x, pattern.y, pattern.x, found, found.numel(),
            len(pattern.y), tile, height, width, zero_row, border=BORDERS.index(border), block=_BLOCK,
        )  # fmt: skip
        return found

    def moved(
        self, references: Tensor, remainder: Tensor, slots: Tensor, displacement: Tensor
    ) -> tuple[Tensor, Tensor]:
        displacement = displacement.contiguous()
        count, height, width, _ = displacement.shape
        rows = references.new_empty(count, height, width)
        left = torch.empty_like(displacement)
        moving = (displacement != 0).flatten(1).any(dim=1).to(torch.int32)
        triton_kernels.move[_grid(rows)](
            references, remainder, slots, displacement, moving, rows, left, rows.numel(), height, width,
            block=_BLOCK,
        )  # fmt: skip
        return rows, left

    def place(self, references: Tensor, remainder: Tensor, tiles: DeviceTiles, tile: int) -> None:
        nobody, height, width = references.shape[0] - 1, references.shape[1] - 2, references.shape[2] - 2
        count = tiles.padded * tile * tile
        triton_kernels.place[(triton.cdiv(count, _BLOCK),)](
            references, remainder, tiles.slot, tiles.y, tiles.x, tiles.page, count, nobody, height, width,
            tile=tile, block=_BLOCK,
        )  # fmt: skip

    def own_rows(self, tiles: DeviceTiles, tile: int) -> Tensor:
        rows = tiles.page.new_empty(tiles.padded * tile * tile)
        triton_kernels.own_rows[_grid(rows)](tiles.page, rows, rows.numel(), area=tile * tile, block=_BLOCK)
        return rows

    def copy(self, source: Tensor, index: Tensor | None, target: Target) -> None:
        source = source.contiguous()
        count, channels = len(source) if index is None else len(index), source.shape[1]
        block_c = min(128, triton.next_power_of_2(channels))
        block_m = max(1, 4096 // block_c)
        triton_kernels.copy[(triton.cdiv(count, block_m), triton.cdiv(channels, block_c))](
            source, _or(index, source), target.rows, _or(target.index, source), count, channels=channels,
            gathers=index is not None, scatters=target.index is not None, block_m=block_m, block_c=block_c,
        )  # fmt: skip

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
        convolve(source, table, weights, target, relu, residual, relu_after)

    def blend(self, source: Tensor, table: Tensor, weights: Tensor, target: Target) -> None:
        (count, taps), channels = table.shape, source.shape[1]
        block_c = min(128, triton.next_power_of_2(channels))
        block_m = max(1, 2048 // block_c)
        triton_kernels.blend[(triton.cdiv(count, block_m), triton.cdiv(channels, block_c))](
            source, table, weights, target.rows, _or(target.index, table), count, len(weights),
            channels=channels, taps=taps, scatters=target.index is not None, block_m=block_m, block_c=block_c,
        )  # fmt: skip

    def image(
        self, pixels: Tensor, tiles: DeviceTiles, bin_size: int, region: tuple[int, int, int, int],
        scale: Tensor, shift: Tensor, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        top, rows, left, columns = region
        height, width = pixels.shape[2:]
        made = torch.empty(tiles.padded, rows, columns, 3, dtype=dtype, device=pixels.device)
        count = made.numel() // 3
        triton_kernels.image[(triton.cdiv(count, _BLOCK),)](
            pixels.contiguous(), tiles.frame, tiles.y, tiles.x, scale, shift, made, count, bin_size,
            top, left, height, width, rows=rows, columns=columns, block=_BLOCK,
        )  # fmt: skip
        return made.permute(0, 3, 1, 2)

    def labels(self, source: Tensor, table: Tensor, factor: int, side: int) -> Tensor:
        size = side * factor
        made = torch.empty(len(table), size, size, dtype=torch.uint8, device=source.device)
        triton_kernels.labels[_grid(made)](
            source, table, made, made.numel(), classes=source.shape[1], factor=factor, side=side, block=_BLOCK
        )
        return made


def _grid(made: Tensor) -> tuple[int]:
    return (triton.cdiv(made.numel(), _BLOCK),)


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A kernel takes a tensor also where it does not read it."""
    return other if tensor is None else tensor
