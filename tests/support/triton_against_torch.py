"""Every Triton kernel of the partial pass beside plain torch, in Triton's interpreter. Says "the same"."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import numpy as np
import torch

from support.resident_features import SideBySide
from tilestream.engine.resident.partial.kernels import BORDERS, Pattern, RowKernels, Target, Weights
from tilestream.engine.resident.partial.tile_sets import DeviceTiles
from tilestream.engine.resident.partial.triton_convolution import Block, block_for
from tilestream.engine.resident.partial.triton_convolution import convolve as convolve_in_blocks
from tilestream.engine.resident.partial.triton_rows import TritonRowKernels
from tilestream.engine.tiles.tables import TileSet

PLAIN, TRITON = RowKernels(), TritonRowKernels()
SLOTS, HEIGHT, WIDTH, TILE, ZERO = 3, 9, 14, 4, 200
random = np.random.default_rng(0)


def ints(high, *shape):
    return torch.from_numpy(random.integers(0, high, shape, dtype=np.int32))


def floats(*shape):
    return torch.from_numpy(random.normal(0, 1, shape).astype(np.float32))


def references():
    return ints(ZERO + 1, SLOTS + 1, HEIGHT + 2, WIDTH + 2), floats(SLOTS + 1, HEIGHT, WIDTH, 2).clamp_(-1, 1)


def tiles():
    """All tiles of two slots, and one that fills up."""
    slot, y, x = np.nonzero(np.ones((2, 3, 4), dtype=np.bool_))
    columns = [np.append(slot, 0), np.append(slot, SLOTS), np.append(y, 0), np.append(x, 0)]
    parts = [torch.from_numpy(column.astype(np.int32)) for column in columns]
    page = torch.from_numpy(np.append(random.permutation(len(slot)), 40).astype(np.int32))
    return DeviceTiles(TileSet(slot, y, x), *parts, page)


def same(one, other, tolerance=1e-5):
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    assert torch.allclose(one.double(), other.double(), atol=tolerance, rtol=tolerance)


def check_lookup():
    rows, _ = references()
    pattern = Pattern(ints(9, 30) - 3, ints(9, 30) - 3)
    for border in BORDERS:
        found = [k.lookup(rows, tiles_, TILE, pattern, border, ZERO) for k in (PLAIN, TRITON)]
        same(*found)


def check_motion():
    rows, remainder = references()
    displacement = (floats(2, HEIGHT, WIDTH, 2) * 4).round() / 2
    displacement[1] = 0
    for ours, theirs in zip(
        *(k.moved(rows, remainder, torch.tensor([2, 0]), displacement) for k in (PLAIN, TRITON)), strict=True
    ):
        same(ours, theirs, 0.0)


def check_placing():
    same(*(k.own_rows(tiles_, TILE) for k in (PLAIN, TRITON)))
    rows, remainder = references()
    results = []
    for kernels in (PLAIN, TRITON):
        placed, left = rows.clone(), remainder.clone()
        kernels.place(placed, left, tiles_, TILE)
        results.append((placed[:SLOTS], left[:SLOTS]))
    for ours, theirs in zip(*results, strict=True):
        same(ours, theirs, 0.0)


def check_rows():
    source, index = floats(50, 20), ints(50, 33)
    place = torch.from_numpy(random.permutation(60)[:33].astype(np.int32))
    table, weights = ints(50, 32, 4), floats(16, 4)
    for gathered in (index, None):
        for scattered in (place, None):
            results = []
            for kernels in (PLAIN, TRITON):
                copied = torch.zeros(33 if scattered is None else 60, 20)
                several = source if gathered is not None else source[:33]
                kernels.copy(several, gathered, Target(copied, scattered))
                blended = torch.zeros(32 if scattered is None else 60, 20)
                target = Target(blended, None if scattered is None else scattered[:32])
                kernels.blend(source, table, weights, target)
                results.append(torch.cat([copied, blended]))
            same(*results)


def check_convolutions():
    """Residuals that are packed, gathered, and the target itself; channels that fill no block."""
    ways = [
        (True, None, True, False),
        (True, "gathered", False, True),
        (True, "itself", True, False),
        (False, "packed", True, True),
        (False, "itself", False, False),
    ]
    for taps, channels, outputs in ((9, 20, 40), (1, 64, 11), (4, 3, 16)):
        source, table = floats(90, channels), ints(90, 77, taps)
        weights = Weights(floats(taps, channels, outputs) / 10, floats(outputs))
        place = torch.from_numpy(random.permutation(100)[:77].astype(np.int32))
        old = floats(100, outputs)
        for number, (scattered, residual, relu, relu_after) in enumerate(ways):
            results = []
            for run in (PLAIN.convolve, in_small_blocks if number else TRITON.convolve):
                made = old.clone() if scattered else old[:77].clone()
                target = Target(made, place if scattered else None)
                added = {
                    None: None,
                    "packed": Target(old[23:], None),
                    "gathered": Target(old, place.flip(0)),
                    "itself": target,
                }[residual]
                run(source, table, weights, target, relu, added, relu_after)
                results.append(made)
            same(*results)
    source, weights = floats(33, 20), Weights(floats(1, 20, 30), floats(30))
    results = []
    for run in (PLAIN.convolve, in_small_blocks):
        results.append(torch.zeros(33, 30))
        run(source, None, weights, Target(results[-1], None), True, None, False)
    same(*results)
    assert block_for(10**6, 64, 64).rows > block_for(10**3, 64, 64).rows


def in_small_blocks(source, table, weights, target, relu, residual, relu_after):
    convolve_in_blocks(source, table, weights, target, relu, residual, relu_after, Block(32, 32, 32, 4, 2))


def check_frames_and_labels():
    pixels, scale, shift = ints(256, 2, 3, 30, 50).to(torch.uint8), floats(3), floats(3)
    same(
        *(k.image(pixels, tiles_, 16, (-3, 22, -5, 19), scale, shift, torch.float32) for k in (PLAIN, TRITON))
    )
    table = ints(90, 5, (TILE + 2) ** 2)
    for factor in (2, 4):
        same(*(k.labels(floats_, table, factor, TILE) for k in (PLAIN, TRITON)), 0)


def check_partial_pass():
    pair = SideBySide("pooled", (20, 40), 2, 1, TRITON)
    pair.step(0.5, by_unit=True, speed=2.0)
    assert pair.worst_difference() < 1e-5


if __name__ == "__main__":
    torch.set_num_threads(1)
    tiles_, floats_ = tiles(), floats(90, 7)
    check_lookup()
    check_motion()
    check_placing()
    check_rows()
    check_convolutions()
    check_frames_and_labels()
    check_partial_pass()
    print("the same")
