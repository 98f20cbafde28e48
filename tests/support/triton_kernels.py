"""Triton's kernels of the resident engine against plain torch, in Triton's interpreter. A program of its own:
the interpreter has to be asked for before Triton is imported. Prints what does not agree.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F

from support.motions import smooth
from support.textures import moved_pair
from tilestream.engine.resident import kernels, reference

RANDOM = np.random.default_rng(0)


def bytes_of(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.integers(0, 256, shape, dtype=np.uint8))


def luma() -> bool:
    pixels = bytes_of(2, 3, 9, 13)
    return all(torch.equal(kernels.luma(pixels, k), reference.luma(pixels, k)) for k in (1, 2, 4))


def flow() -> bool:
    for ops in (kernels, reference):
        ops.LEVELS, ops.ITERATIONS = 2, 3  # or the interpreter takes long
    pairs = [moved_pair(2, -1, 14, 15)]
    y, x = np.mgrid[:14, :15]
    pairs.append(tuple(((x + y + shift) // 4 % 2 * 255).astype(np.uint8) for shift in (0, 2)))
    before, now = (torch.from_numpy(np.stack(each)).float() for each in zip(*pairs, strict=True))
    expected = smooth(2, 2, 14, 15, 1.0)
    found, right = (ops.flow(before, now, expected) for ops in (kernels, reference))
    return bool(torch.isfinite(found).all()) and float((found - right)[0].abs().max()) < 0.05


def moved_labels() -> bool:
    table, slots = bytes_of(4, 18, 26), torch.tensor([3, 1])
    for scale, step in ((1, 1), (2, 1), (2, 4)):
        displacement = smooth(2, 2, 18 // scale, 26 // scale, 4.0)
        found, right = (
            ops.moved_labels(table, slots, displacement, scale, step) for ops in (kernels, reference)
        )
        if found.shape != right.shape or (found != right).float().mean() > 0.01:
            return False
    return True


def best_labels() -> bool:
    scores = torch.randn(2, 5, 4, 6)
    found, right = (torch.empty((2, 15, 22), dtype=torch.uint8) for _ in range(2))
    kernels.best_labels(scores.contiguous(memory_format=torch.channels_last), 4, found)
    reference.best_labels(scores, 4, right)
    return bool((found != right).float().mean() < 0.01)


def normalized() -> bool:
    pixels, rows = bytes_of(3, 3, 7, 10), torch.tensor([2, 0])
    scale, shift = torch.rand(3), torch.randn(3)
    found, right = (
        torch.full((3, 3, 8, 12), 9.0).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    kernels.normalized(pixels, rows, scale, shift, found)
    reference.normalized(pixels, rows, scale, shift, right)
    return torch.allclose(found, right, atol=1e-5)


def label_runs() -> bool:
    coarse = F.interpolate(bytes_of(2, 1, 2, 5).float(), size=(4, 11))[:, 0].to(torch.uint8)
    for labels, capacity in ((coarse, 400), (coarse, 8), (bytes_of(2, 3, 1), 30), (bytes_of(1, 1, 9), 9)):
        found, right = (ops.label_runs(labels, capacity) for ops in (kernels, reference))
        there = len(labels) + min(capacity, int(right[len(labels) - 1]))
        if not torch.equal(found[:there], right[:there]):
            return False
    return True


if __name__ == "__main__":
    checks = (luma, flow, moved_labels, best_labels, normalized, label_runs)
    wrong = [check.__name__ for check in checks if not check()]
    print("wrong:", *wrong)
    sys.exit(bool(wrong))
