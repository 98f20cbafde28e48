"""What takes many passes over memory in torch, in one launch for all frames: Triton, CUDA only.

For what each function computes see the one of the same name in ``reference``.
"""

# Triton's language is not typed:
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# mypy: disable-error-code="import-untyped, import-not-found"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tilestream.engine.resident.reference import ITERATIONS, PATCH, coarse_to_fine, grid
from tilestream.engine.resident.search import FOR_LABELS, Search

_FIRST_GUESSES = tl.constexpr(5)  # of a patch's flow: at its centre and at those beside it


@triton.jit(do_not_specialize=["count"])
def _luma(pixels, out, count, H, W, h, w, K: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    ok = i < count * h * w
    frame, rest = i // (h * w), i % (h * w)
    y, x = rest // w, rest % w
    total = tl.zeros((B,), tl.int32)
    for dy in tl.static_range(K):
        for dx in tl.static_range(K):
            row, column = tl.minimum(y * K + dy, H - 1), tl.minimum(x * K + dx, W - 1)
            at = pixels + frame * 3 * H * W + row * W + column
            red = tl.load(at, mask=ok, other=0).to(tl.int32)
            green = tl.load(at + H * W, mask=ok, other=0).to(tl.int32)
            blue = tl.load(at + 2 * H * W, mask=ok, other=0).to(tl.int32)
            total += (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15
    tl.store(out + i, tl.floor(total.to(tl.float32) / (K * K) + 0.5).to(tl.uint8), mask=ok)


def luma(pixels: Tensor, scale: int) -> Tensor:
    count, _, height, width = pixels.shape
    rows, columns = -(-height // scale), -(-width // scale)
    out = torch.empty(count, rows, columns, dtype=torch.uint8, device=pixels.device)
    blocks = (triton.cdiv(out.numel(), 256),)
    _luma[blocks](pixels, out, count, height, width, rows, columns, K=scale, B=256)
    return out


@triton.jit
def _bilinear(image, base, y, x, h, w):
    y = tl.minimum(tl.maximum(y, 0.0), h - 1.0)
    x = tl.minimum(tl.maximum(x, 0.0), w - 1.0)
    above, left = tl.floor(y), tl.floor(x)
    down, right = y - above, x - left
    row, column = above.to(tl.int32), left.to(tl.int32)
    below, beside = tl.minimum(row + 1, h - 1), tl.minimum(column + 1, w - 1)
    p = image + base
    upper = tl.load(p + row * w + column) * (1 - right) + tl.load(p + row * w + beside) * right
    lower = tl.load(p + below * w + column) * (1 - right) + tl.load(p + below * w + beside) * right
    return upper * (1 - down) + lower * down


@triton.jit
def _left(image, base, y, x, h, w, template, MEANS: tl.constexpr):
    """What differs from a template, pixel by pixel."""
    error = _bilinear(image, base, y, x, h, w) - template
    if MEANS:
        error -= tl.sum(error) / error.shape[0]
    return error


@triton.jit
def _search(previous, current, start, out, h, w, rows, columns,
            S: tl.constexpr, P: tl.constexpr, MEANS: tl.constexpr, ITERS: tl.constexpr,
            GUESSES: tl.constexpr):  # fmt: skip
    """One program per patch; ``start`` float [n, 2, h, w], ``out`` float [n, 2, rows, columns]."""
    i = tl.program_id(0)
    frame, rest = i // (rows * columns), i % (rows * columns)
    top, left = (rest // columns) * S, (rest % columns) * S
    k = tl.arange(0, P * P)
    py, px = top + k // P, left + k % P
    base = frame.to(tl.int64) * h * w
    cy, cx = tl.minimum(py, h - 1), tl.minimum(px, w - 1)
    template = tl.load(current + base + cy * w + cx)
    gx = tl.load(current + base + cy * w + tl.minimum(cx + 1, w - 1))
    gx = (gx - tl.load(current + base + cy * w + tl.maximum(cx - 1, 0))) * 0.5
    gy = tl.load(current + base + tl.minimum(cy + 1, h - 1) * w + cx)
    gy = (gy - tl.load(current + base + tl.maximum(cy - 1, 0) * w + cx)) * 0.5
    if MEANS:
        gx, gy = gx - tl.sum(gx) / (P * P), gy - tl.sum(gy) / (P * P)
    a, d, b = tl.sum(gx * gx) + 1e-2, tl.sum(gy * gy) + 1e-2, tl.sum(gx * gy)
    determinant = tl.maximum(a * d - b * b, 1e-2 * (a + d) - 1e-4)  # it is no less, but for rounding
    first_u, first_v, best = 0.0, 0.0, 1e30
    for q in tl.static_range(GUESSES):
        dy = (q == 1) * S - (q == 3) * S
        dx = (q == 2) * S - (q == 4) * S
        my = tl.minimum(tl.maximum(top + P // 2 + dy, 0), h - 1)
        mx = tl.minimum(tl.maximum(left + P // 2 + dx, 0), w - 1)
        u = tl.load(start + 2 * base + my * w + mx)
        v = tl.load(start + 2 * base + h * w + my * w + mx)
        error = _left(previous, base, py + v, px + u, h, w, template, MEANS)
        misfit = tl.sum(error * error)
        better = misfit < best
        first_u, first_v = tl.where(better, u, first_u), tl.where(better, v, first_v)
        best = tl.where(better, misfit, best)
    u, v = first_u, first_v
    for _ in range(ITERS):
        error = _left(previous, base, py + v, px + u, h, w, template, MEANS)
        p, q2 = tl.sum(gx * error), tl.sum(gy * error)
        u -= (d * p - b * q2) / determinant
        v -= (a * q2 - b * p) / determinant
    error = _left(previous, base, py + v, px + u, h, w, template, MEANS)
    near = (u - first_u) * (u - first_u) + (v - first_v) * (v - first_v) <= P * P
    better = near & (tl.sum(error * error) <= best)  # false where u or v is not a number
    at = out + frame.to(tl.int64) * 2 * rows * columns + rest
    tl.store(at, tl.where(better, u, first_u))
    tl.store(at + rows * columns, tl.where(better, v, first_v))


@triton.jit(do_not_specialize=["count"])
def _densify(previous, current, patches, out, count, h, w, rows, columns,
             S: tl.constexpr, P: tl.constexpr, B: tl.constexpr):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    ok = i < count * h * w
    i = tl.where(ok, i, 0)
    frame, rest = i // (h * w), i % (h * w)
    y, x = rest // w, rest % w
    now = tl.load(current + i)
    none = tl.zeros((B,), tl.float32)
    total_u, total_v, weights = none, none, none
    for up in tl.static_range((P + S - 1) // S):
        for back in tl.static_range((P + S - 1) // S):
            row, column = y // S - up, x // S - back
            inside = (row >= 0) & (column >= 0) & (row < rows) & (column < columns)
            inside = inside & (y - row * S < P) & (x - column * S < P)
            at = patches + frame * 2 * rows * columns + row * columns + column
            u = tl.load(at, mask=inside, other=0.0)
            v = tl.load(at + rows * columns, mask=inside, other=0.0)
            error = _bilinear(previous, frame * h * w, y + v, x + u, h, w) - now
            weight = tl.where(inside, 1.0 / tl.maximum(tl.abs(error), 1.0), 0.0)
            total_u += weight * u
            total_v += weight * v
            weights += weight
    weights = tl.maximum(weights, 1e-6)
    target = out + frame * 2 * h * w + rest
    tl.store(target, total_u / weights, mask=ok)
    tl.store(target + h * w, total_v / weights, mask=ok)


def flow(previous: Tensor, current: Tensor, expected: Tensor, how: Search = FOR_LABELS) -> Tensor:
    def level(previous: Tensor, current: Tensor, start: Tensor) -> Tensor:
        return _level(previous.contiguous(), current.contiguous(), start.contiguous(), how)

    return coarse_to_fine(previous, current, expected, level)


def _level(previous: Tensor, current: Tensor, start: Tensor, how: Search) -> Tensor:
    count, _, height, width = current.shape
    rows, columns = grid(height, width, how.spacing)
    patches = torch.empty(count, 2, rows, columns, device=current.device)
    out = torch.empty_like(start)
    _search[(count * rows * columns,)](
        previous, current, start, patches, height, width, rows, columns,
        S=how.spacing, P=PATCH, MEANS=how.means, ITERS=ITERATIONS, GUESSES=_FIRST_GUESSES, num_warps=1,
    )  # fmt: skip
    _densify[(triton.cdiv(count * height * width, 256),)](
        previous, current, patches, out, count, height, width, rows, columns, S=how.spacing, P=PATCH, B=256
    )
    return out


@triton.jit(do_not_specialize=["count"])
def _move(table, slots, displacement, out, count, H, W, h, w, rows, columns,
          SCALE: tl.constexpr, STEP: tl.constexpr, B: tl.constexpr):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    ok = i < count * rows * columns
    i = tl.where(ok, i, 0)
    frame, rest = i // (rows * columns), i % (rows * columns)
    y, x = (rest // columns) * STEP + STEP // 2, (rest % columns) * STEP + STEP // 2
    at_y, at_x = (y + 0.5) / SCALE - 0.5, (x + 0.5) / SCALE - 0.5
    u = _bilinear(displacement, frame * 2 * h * w, at_y, at_x, h, w) * SCALE
    v = _bilinear(displacement, frame * 2 * h * w + h * w, at_y, at_x, h, w) * SCALE
    row = tl.minimum(tl.maximum(tl.floor(y + v + 0.5).to(tl.int32), 0), H - 1)
    column = tl.minimum(tl.maximum(tl.floor(x + u + 0.5).to(tl.int32), 0), W - 1)
    slot = tl.load(slots + frame).to(tl.int64)
    tl.store(out + i, tl.load(table + slot * H * W + row * W + column), mask=ok)


def moved_labels(table: Tensor, slots: Tensor, displacement: Tensor, scale: int, step: int = 1) -> Tensor:
    (height, width), (h, w) = table.shape[1:], displacement.shape[2:]
    rows, columns = len(range(step // 2, height, step)), len(range(step // 2, width, step))
    out = torch.empty(len(slots), rows, columns, dtype=torch.uint8, device=table.device)
    _move[(triton.cdiv(out.numel(), 1024),)](
        table, slots, displacement.contiguous(), out, len(slots), height, width, h, w, rows, columns,
        SCALE=scale, STEP=step, B=1024,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["count"])
def _labels(scores, out, count, H, W, h, w, sn, sc, sy, sx,
            C: tl.constexpr, K: tl.constexpr, B: tl.constexpr):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    ok = i < count * H * W
    i = tl.where(ok, i, 0)
    frame, rest = i // (H * W), i % (H * W)
    y, x = rest // W, rest % W
    at_y, at_x = tl.maximum((y + 0.5) / K - 0.5, 0.0), tl.maximum((x + 0.5) / K - 0.5, 0.0)
    row, column = at_y.to(tl.int32), at_x.to(tl.int32)
    down, right = at_y - row, at_x - column
    below, beside = tl.minimum(row + 1, h - 1), tl.minimum(column + 1, w - 1)
    best, label = tl.full((B,), -1e30, tl.float32), tl.zeros((B,), tl.int32)
    for c in range(C):
        p = scores + frame * sn + c * sc
        upper = tl.load(p + row * sy + column * sx).to(tl.float32) * (1 - right)
        upper += tl.load(p + row * sy + beside * sx).to(tl.float32) * right
        lower = tl.load(p + below * sy + column * sx).to(tl.float32) * (1 - right)
        lower += tl.load(p + below * sy + beside * sx).to(tl.float32) * right
        value = upper * (1 - down) + lower * down
        label = tl.where(value > best, c, label)
        best = tl.maximum(value, best)
    tl.store(out + i, label.to(tl.uint8), mask=ok)


def best_labels(scores: Tensor, factor: int, out: Tensor) -> None:
    count, classes, h, w = scores.shape
    height, width = out.shape[1:]
    _labels[(triton.cdiv(out.numel(), 512),)](
        scores, out, count, height, width, h, w, *scores.stride(), C=classes, K=factor, B=512
    )


@triton.jit(do_not_specialize=["count"])
def _normalize(pixels, chosen, scale, shift, out, count, H, W, h, w, sn, sc, sy, sx, B: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    ok = i < count * h * w
    i = tl.where(ok, i, 0)
    frame, rest = i // (h * w), i % (h * w)
    y, x = rest // w, rest % w
    inside = (y < H) & (x < W)
    source = tl.load(chosen + frame).to(tl.int64) * 3 * H * W + tl.where(inside, y * W + x, 0)
    target = out + frame * sn + y * sy + x * sx
    for c in tl.static_range(3):
        value = tl.load(pixels + source + c * H * W).to(tl.float32) * tl.load(scale + c) + tl.load(shift + c)
        tl.store(target + c * sc, tl.where(inside, value, 0.0).to(out.dtype.element_ty), mask=ok)


def normalized(pixels: Tensor, rows: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    (height, width), (h, w) = pixels.shape[2:], out.shape[2:]
    count = len(rows)
    _normalize[(triton.cdiv(count * h * w, 1024),)](
        pixels, rows, scale, shift, out, count, height, width, h, w, *out.stride(), B=1024
    )


@triton.jit
def _begins(labels, row, W, x, H):
    """The labels of a row, and where in it a run begins; what lies before a frame's first pixel is none."""
    first = tl.where(row % H == 0, 1, 0)
    here = tl.load(labels + row * W + x, mask=x < W, other=0)
    before = tl.load(labels + row * W + x - 1, mask=(x < W) & (x >= first), other=0)
    return here, (x < W) & ((here != before) | (x < first))


@triton.jit
def _count_runs(labels, count, H, W, B: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    _, begins = _begins(labels, row, W, tl.arange(0, B), H)
    tl.store(count + row, tl.sum(begins.to(tl.int32)))


@triton.jit(do_not_specialize=["capacity"])
def _write_runs(labels, ends, out, H, W, capacity, B: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x = tl.arange(0, B)
    here, begins = _begins(labels, row, W, x, H)
    one = begins.to(tl.int32)
    at = tl.load(ends + row) - tl.sum(one) + tl.cumsum(one) - 1
    run = (here.to(tl.int32) << 24) | ((row % H).to(tl.int32) * W + x)
    tl.store(out + at, run, mask=begins & (at < capacity))


def label_runs(labels: Tensor, capacity: int) -> Tensor:
    count, height, width = labels.shape
    block = triton.next_power_of_2(width)
    per_row = torch.empty(count * height, dtype=torch.int32, device=labels.device)
    _count_runs[(count * height,)](labels, per_row, height, width, B=block)
    ends = per_row.cumsum(0, dtype=torch.int32)
    buffer = torch.empty(count + capacity, dtype=torch.int32, device=labels.device)
    buffer[:count] = ends[height - 1 :: height]
    _write_runs[(count * height,)](labels, ends, buffer[count:], height, width, capacity, B=block)
    return buffer
