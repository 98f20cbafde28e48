"""The operations on rows as Triton kernels; ``triton_rows`` launches them.

Parameters that are not ``tl.constexpr`` are pointers, or whole numbers where they count or measure something.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"])
def lookup(
    references, slots, tiles_y, tiles_x, pattern_y, pattern_x, found,
    count, length, tile, height, width, zero_row,
    border: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * block + tl.arange(0, block)
    ok = i < count
    n, p = i // length, i % length
    y = tl.load(tiles_y + n, mask=ok, other=0) * tile + tl.load(pattern_y + p, mask=ok, other=0)
    x = tl.load(tiles_x + n, mask=ok, other=0) * tile + tl.load(pattern_x + p, mask=ok, other=0)
    if border == 2:  # replicate
        y, x = tl.minimum(tl.maximum(y, 0), height - 1), tl.minimum(tl.maximum(x, 0), width - 1)
    if border == 3:  # reflect
        period_y, period_x = tl.maximum(2 * (height - 1), 1), tl.maximum(2 * (width - 1), 1)
        y, x = tl.abs(y) % period_y, tl.abs(x) % period_x
        y, x = tl.minimum(y, period_y - y), tl.minimum(x, period_x - x)
    if border == 4:  # circular; positions are never more than a few maps before the first
        y, x = (y + 64 * height) % height, (x + 64 * width) % width
    y, x = tl.minimum(tl.maximum(y, -1), height) + 1, tl.minimum(tl.maximum(x, -1), width) + 1
    line = tl.load(slots + n, mask=ok, other=0).to(tl.int64) * (height + 2) + y
    row = tl.load(references + line * (width + 2) + x, mask=ok, other=0)
    if border == 1:  # lowest
        row = tl.where(row == zero_row, zero_row + 1, row)
    tl.store(found + i, row, mask=ok)


@triton.jit
def _nearest(position, size):
    # halves always up: to even, even motion would leave every other feature on the other side
    whole = tl.floor(position + 0.5)
    return tl.minimum(tl.maximum(whole, 0.0), size - 1.0)


@triton.jit(do_not_specialize=["count"])
def move(
    references, remainder, slots, displacement, moving, rows, left,
    count, height, width, block: tl.constexpr,
):  # fmt: skip
    i = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    ok = i < count
    n, place = i // (height * width), i % (height * width)
    y, x = place // width, place % width
    slot = tl.load(slots + n, mask=ok, other=0)
    inside = references + slot * (height + 2) * (width + 2) + width + 3  # the first feature behind the rim
    beside = remainder + slot * height * width * 2
    # in double precision: rounded differently in every column, halves would tear an even motion apart
    to_x = tl.load(displacement + 2 * i, mask=ok, other=0.0).to(tl.float64) + x.to(tl.float64)
    to_y = tl.load(displacement + 2 * i + 1, mask=ok, other=0.0).to(tl.float64) + y.to(tl.float64)
    flat = (_nearest(to_y, height) * width + _nearest(to_x, width)).to(tl.int64)
    there_x = tl.load(beside + 2 * flat, mask=ok, other=0.0).to(tl.float64)
    there_y = tl.load(beside + 2 * flat + 1, mask=ok, other=0.0).to(tl.float64)
    # What lies there is the content of a place up to one feature off: aim beside it.
    column, row = _nearest(to_x - there_x, width), _nearest(to_y - there_y, height)
    follows = (tl.load(moving + n, mask=ok, other=0) != 0) & ok
    row_y, row_x = tl.where(follows, row.to(tl.int64), y), tl.where(follows, column.to(tl.int64), x)
    tl.store(rows + i, tl.load(inside + row_y * (width + 2) + row_x, mask=ok, other=0), mask=ok)
    flat = row_y * width + row_x
    off_x = tl.where(follows, (column - to_x).to(tl.float32), 0.0)
    off_y = tl.where(follows, (row - to_y).to(tl.float32), 0.0)
    off_x += tl.load(beside + 2 * flat, mask=ok, other=0.0)
    off_y += tl.load(beside + 2 * flat + 1, mask=ok, other=0.0)
    tl.store(left + 2 * i, tl.minimum(tl.maximum(off_x, -1.0), 1.0), mask=ok)
    tl.store(left + 2 * i + 1, tl.minimum(tl.maximum(off_y, -1.0), 1.0), mask=ok)


@triton.jit(do_not_specialize=["count", "nobody"])
def place(
    references, remainder, slots, tiles_y, tiles_x, pages,
    count, nobody, height, width, tile: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * block + tl.arange(0, block)
    ok = i < count
    n, inner = i // (tile * tile), i % (tile * tile)
    y = tl.load(tiles_y + n, mask=ok, other=0) * tile + inner // tile
    x = tl.load(tiles_x + n, mask=ok, other=0) * tile + inner % tile
    slot = tl.load(slots + n, mask=ok, other=0).to(tl.int64)
    ok = ok & (slot < nobody) & (y < height) & (x < width)
    row = tl.load(pages + n, mask=ok, other=0) * (tile * tile) + inner
    tl.store(references + (slot * (height + 2) + y + 1) * (width + 2) + x + 1, row, mask=ok)
    flat = (slot * height + y) * width + x
    tl.store(remainder + 2 * flat, tl.zeros((block,), tl.float32), mask=ok)
    tl.store(remainder + 2 * flat + 1, tl.zeros((block,), tl.float32), mask=ok)


@triton.jit(do_not_specialize=["count"])
def own_rows(pages, rows, count, area: tl.constexpr, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    ok = i < count
    tl.store(rows + i, tl.load(pages + i // area, mask=ok, other=0) * area + i % area, mask=ok)


@triton.jit(do_not_specialize=["count"])
def copy(
    source, index, made, targets, count, channels: tl.constexpr,
    gathers: tl.constexpr, scatters: tl.constexpr, block_m: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * block_m + tl.arange(0, block_m)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    ok = m < count
    inside = ok[:, None] & (c < channels)[None, :]
    row, target = m.to(tl.int64), m.to(tl.int64)
    if gathers:
        row = tl.load(index + m, mask=ok, other=0).to(tl.int64)
    if scatters:
        target = tl.load(targets + m, mask=ok, other=0).to(tl.int64)
    values = tl.load(source + row[:, None] * channels + c[None, :], mask=inside, other=0.0)
    tl.store(made + target[:, None] * channels + c[None, :], values.to(made.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count"])
def blend(
    source, table, weights, made, targets, count, length,
    channels: tl.constexpr, taps: tl.constexpr, scatters: tl.constexpr,
    block_m: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * block_m + tl.arange(0, block_m)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    ok = m < count
    inside = ok[:, None] & (c < channels)[None, :]
    total = tl.zeros((block_m, block_c), tl.float32)
    for t in tl.static_range(taps):
        row = tl.load(table + m * taps + t, mask=ok, other=0).to(tl.int64)
        weight = tl.load(weights + (m % length) * taps + t, mask=ok, other=0.0)
        values = tl.load(source + row[:, None] * channels + c[None, :], mask=inside, other=0.0)
        total += values.to(tl.float32) * weight[:, None]
    target = m.to(tl.int64)
    if scatters:
        target = tl.load(targets + m, mask=ok, other=0).to(tl.int64)
    tl.store(made + target[:, None] * channels + c[None, :], total.to(made.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count", "top", "left"])
def image(
    pixels, frames, tiles_y, tiles_x, scale, shift, made, count,
    bin_size, top, left, height, width,
    rows: tl.constexpr, columns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * block + tl.arange(0, block)
    ok = i < count
    n, inner = i // (rows * columns), i % (rows * columns)
    y = tl.load(tiles_y + n, mask=ok, other=0) * bin_size + top + inner // columns
    x = tl.load(tiles_x + n, mask=ok, other=0) * bin_size + left + inner % columns
    inside = ok & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    frame = tl.load(frames + n, mask=ok, other=0).to(tl.int64)
    for c in tl.static_range(3):
        pixel = tl.load(pixels + ((frame * 3 + c) * height + y) * width + x, mask=inside, other=0)
        value = pixel.to(tl.float32) * tl.load(scale + c) + tl.load(shift + c)
        value = tl.where(inside, value, 0.0)
        tl.store(made + i.to(tl.int64) * 3 + c, value.to(made.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=["count"])
def labels(
    source, table, made, count, classes: tl.constexpr, factor: tl.constexpr,
    side: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    size: tl.constexpr = side * factor
    rim: tl.constexpr = side + 2
    i = tl.program_id(0) * block + tl.arange(0, block)
    ok = i < count
    n, y, x = i // (size * size), i // size % size, i % size
    # output y lies at (y + 0.5) / factor - 0.5 between the features above and below; the rim begins at -1
    above, before = (2 * y + 1 + factor) // (2 * factor), (2 * x + 1 + factor) // (2 * factor)
    down = (2 * y + 1 + factor - 2 * factor * above).to(tl.float32) / (2 * factor)
    along = (2 * x + 1 + factor - 2 * factor * before).to(tl.float32) / (2 * factor)
    at = table + n * (rim * rim) + above * rim + before
    row0 = tl.load(at, mask=ok, other=0).to(tl.int64) * classes
    row1 = tl.load(at + 1, mask=ok, other=0).to(tl.int64) * classes
    row2 = tl.load(at + rim, mask=ok, other=0).to(tl.int64) * classes
    row3 = tl.load(at + rim + 1, mask=ok, other=0).to(tl.int64) * classes
    best = tl.full((block,), float("-inf"), tl.float32)
    label = tl.zeros((block,), tl.int32)
    for c in range(classes):
        upper = tl.load(source + row0 + c, mask=ok, other=0.0).to(tl.float32) * (1 - along)
        upper += tl.load(source + row1 + c, mask=ok, other=0.0).to(tl.float32) * along
        lower = tl.load(source + row2 + c, mask=ok, other=0.0).to(tl.float32) * (1 - along)
        lower += tl.load(source + row3 + c, mask=ok, other=0.0).to(tl.float32) * along
        score = upper * (1 - down) + lower * down
        label = tl.where(score > best, c, label)
        best = tl.maximum(score, best)
    tl.store(made + i, label.to(tl.uint8), mask=ok)


@triton.jit(do_not_specialize=["count"])
def convolve(
    source, table, weights, bias, added, added_rows, made, rows,
    count, channels: tl.constexpr, results: tl.constexpr, taps: tl.constexpr, gathers: tl.constexpr,
    relu: tl.constexpr, adds: tl.constexpr, adds_gathered: tl.constexpr, relu_after: tl.constexpr,
    scatters: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
    precision: tl.constexpr,
):  # fmt: skip
    # neighbours share the rows that they read, not the weights: these stay in the cache anyway
    across: tl.constexpr = (results + block_n - 1) // block_n
    m = tl.program_id(0) // across * block_m + tl.arange(0, block_m)
    n = tl.program_id(0) % across * block_n + tl.arange(0, block_n)
    k = tl.arange(0, block_k)
    ok = m < count
    total = tl.zeros((block_m, block_n), tl.float32)
    for t in range(taps):
        row = m.to(tl.int64)
        if gathers:
            row = tl.load(table + m * taps + t, mask=ok, other=0).to(tl.int64)
        for c in range(0, channels, block_k):
            there = (c + k) < channels
            left = tl.load(
                source + row[:, None] * channels + (c + k)[None, :],
                mask=ok[:, None] & there[None, :],
                other=0.0,
            )
            right = tl.load(
                weights + (t * channels + c + k)[:, None] * results + n[None, :],
                mask=there[:, None] & (n < results)[None, :],
                other=0.0,
            )
            total = tl.dot(left, right, total, input_precision=precision)
    total += tl.load(bias + n, mask=n < results, other=0.0)[None, :]
    if relu:
        total = tl.maximum(total, 0.0)
    inside = ok[:, None] & (n < results)[None, :]
    if adds:
        row = m.to(tl.int64)
        if adds_gathered:
            row = tl.load(added_rows + m, mask=ok, other=0).to(tl.int64)
        at = row[:, None] * results + n[None, :]
        total += tl.load(added + at, mask=inside, other=0.0).to(tl.float32)
    if relu_after:
        total = tl.maximum(total, 0.0)
    row = m.to(tl.int64)
    if scatters:
        row = tl.load(rows + m, mask=ok, other=0).to(tl.int64)
    tl.store(made + row[:, None] * results + n[None, :], total.to(made.dtype.element_ty), mask=inside)
