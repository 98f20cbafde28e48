"""Convolution of chosen tiles in one launch: gather, product, bias, residual, ReLU and scatter.

An implicit matrix product whose left side is gathered through a table of rows, as sparse convolutions do.
Nothing but kept features is read or written, each once, and no halo is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton

from tilestream.engine.resident.partial import triton_kernels
from tilestream.engine.resident.partial.kernels import Target, Weights

_MULTIPROCESSORS = 132  # of a Hopper GPU
_LARGE = 300_000  # outputs from which large blocks are the faster ones for few channels


@dataclass(frozen=True, slots=True)
class Block:
    """What one program computes: ``rows`` outputs x ``results`` channels, ``channels`` inputs at a time."""

    rows: int
    results: int
    channels: int
    warps: int
    stages: int


def block_for(count: int, channels: int, results: int) -> Block:
    """What was fastest on an H200, for the layers of a ResNet-18 on tiles of frames of 1280x720."""
    if -(-count // 64) * -(-results // 128) < _MULTIPROCESSORS:
        chosen = Block(64, 64, 64, 4, 3)
    elif results <= 64 and count >= _LARGE:
        chosen = Block(128, 64, 64, 4, 4)
    elif channels <= 64:
        chosen = Block(64, 64, 64, 4, 3)
    elif channels < 512:
        chosen = Block(64, 128, 32, 4, 4)
    else:
        chosen = Block(128, 128, 32, 8, 3)
    return replace(
        chosen, results=_fitting(chosen.results, results), channels=_fitting(chosen.channels, channels)
    )


def _fitting(size: int, needed: int) -> int:
    """The matrix units take 16 at least."""
    return min(size, max(16, triton.next_power_of_2(needed)))


def convolve(
    source: torch.Tensor,
    table: torch.Tensor | None,
    weights: Weights,
    target: Target,
    relu: bool,
    residual: Target | None,
    relu_after: bool,
    block: Block | None = None,
) -> None:
    """See ``RowKernels.convolve``."""
    taps, channels, results = weights.taps.shape
    count = len(source) if table is None else table.numel() // taps
    block = block or block_for(count, channels, results)
    added = residual or target
    programs = triton.cdiv(count, block.rows) * triton.cdiv(results, block.results)
    triton_kernels.convolve[(programs,)](
        source,
        source if table is None else table,
        weights.taps,
        weights.bias,
        added.rows,
        source if added.index is None else added.index,
        target.rows,
        source if target.index is None else target.index,
        count,
        channels=channels,
        results=results,
        taps=taps,
        gathers=table is not None,
        relu=relu,
        adds=residual is not None,
        adds_gathered=added.index is not None,
        relu_after=relu_after,
        scatters=target.index is not None,
        block_m=block.rows,
        block_n=block.results,
        block_k=block.channels,
        precision="ieee" if source.dtype == torch.float32 else "tf32",
        num_warps=block.warps,
        num_stages=block.stages,
    )
