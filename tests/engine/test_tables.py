"""Index tables read what padding, unfolding and interpolating the whole map would read."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from support.reuse_engines import CPU
from tilestream.engine.lowering.program import Axis, Window
from tilestream.engine.memory.row_map import RowMap
from tilestream.engine.tiles.tables import StepTables, StrideMaps, TileSet, bucket

TILE, STRIDE = 4, 8
BORDERS = {
    "zeros": "constant",
    "lowest": "constant",
    "replicate": "edge",
    "reflect": "reflect",
    "circular": "wrap",
}


class Maps:
    """Maps of some sessions with values of their own, in pages that are all over the place."""

    def __init__(self, sizes: list[tuple[int, int]], seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        counts = [-(-h // TILE) * -(-w // TILE) for h, w in sizes]
        order = random.permutation(sum(counts))
        zero_row = len(order) * TILE**2
        # far from the two constants, and from each other
        self.store = torch.from_numpy(random.uniform(1, 2, (zero_row + 2, 1)))
        self.store[zero_row], self.store[zero_row + 1] = 0.0, -1e9
        rows, self.whole, self.grids = [], [], []
        for (height, width), count in zip(sizes, counts, strict=True):
            grid = (-(-height // TILE), -(-width // TILE))
            pages, order = order[:count], order[count:]
            rows.append(RowMap(height, width, zero_row))
            rows[-1].place(TILE, *(index.ravel() for index in np.indices(grid)), pages)
            self.whole.append(self.store[rows[-1].inner.astype(np.int64)][..., 0].numpy())
            self.grids.append(grid)
        padded = np.array(sizes) * STRIDE
        self.tables = StepTables({STRIDE: StrideMaps.of(rows, TILE)}, padded, CPU)
        masks = [random.random(grid) < 0.6 for grid in self.grids]
        masks[-1][-1, -1] = True
        self.tiles = TileSet.from_masks(masks)

    def read(self, table: torch.Tensor) -> np.ndarray:
        return self.store.index_select(0, table.reshape(-1).long())[:, 0].numpy()

    def padded(self, session: int, border: str, rim: int = 40) -> np.ndarray:
        fill = {"zeros": {"constant_values": 0.0}, "lowest": {"constant_values": -1e9}}.get(border, {})
        return np.pad(self.whole[session], rim, mode=BORDERS[border], **fill)

    def inside(self, session: int, y: int, x: int, tile: int = TILE) -> tuple[slice, slice]:
        """The part of a tile that lies on the map."""
        height, width = (side * tile // TILE for side in self.whole[session].shape)
        return slice(0, max(0, height - y * tile)), slice(0, max(0, width - x * tile))


sizes = st.lists(st.tuples(st.integers(3, 13), st.integers(3, 13)), min_size=1, max_size=3)


@given(count=st.integers(0, 5000))
def test_buckets_are_a_little_larger_and_few(count):
    size = bucket(count)
    assert count <= size <= count * 1.125
    assert bucket(size) == size
    assert bucket(count + 1) >= size


def test_there_are_few_buckets():
    assert [bucket(n) for n in (0, 1, 7, 8, 9, 15, 16, 17, 18, 19, 33)] == [
        0,
        1,
        7,
        8,
        9,
        15,
        16,
        18,
        18,
        20,
        36,
    ]
    assert len({bucket(n) for n in range(1, 1025)}) < 75


@given(
    masks=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_tiles_come_session_by_session_in_raster_order(masks, seed):
    random = np.random.default_rng(seed)
    arrays = [random.random(shape) < 0.5 for shape in masks]
    tiles = TileSet.from_masks(arrays)
    expected = [(s, y, x) for s, mask in enumerate(arrays) for y, x in zip(*np.nonzero(mask), strict=True)]
    assert list(zip(tiles.session, tiles.y, tiles.x, strict=True)) == expected
    assert tiles.count == len(expected)


@pytest.mark.parametrize("border", BORDERS)
@given(sizes=sizes, seed=st.integers(0, 99), top=st.integers(-3, 2), left=st.integers(-3, 2))
def test_windows_are_cut_from_the_padded_map(border, sizes, seed, top, left):
    maps = Maps(sizes, seed)
    rows, columns = 7, 8
    table = maps.tables.window(STRIDE, maps.tiles, (top, rows), (left, columns), border)
    assert len(table) == maps.tiles.padded * rows * columns
    found = maps.read(table).reshape(-1, rows, columns)
    for index, (session, y, x) in enumerate(zip(maps.tiles.session, maps.tiles.y, maps.tiles.x, strict=True)):
        start_y, start_x = 40 + y * TILE + top, 40 + x * TILE + left
        expected = maps.padded(session, border)[start_y : start_y + rows, start_x : start_x + columns]
        assert np.array_equal(found[index], expected)


@given(
    sizes=sizes, kernel=st.tuples(st.integers(1, 4), st.integers(1, 3)), stride=st.sampled_from([1, 2]),
    dilation=st.integers(1, 2), lo=st.integers(0, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_patches_are_what_a_convolution_unfolds(sizes, kernel, stride, dilation, lo, seed):
    sizes = [(2 * h, 2 * w) for h, w in sizes]
    maps = Maps(sizes, seed)
    tile = TILE // stride
    axes = [Axis(k, stride, dilation, lo, 0) for k in kernel]
    table = maps.tables.patches(STRIDE, maps.tiles, tile, Window(*axes))
    found = maps.read(table).reshape(maps.tiles.padded, tile, tile, kernel[0] * kernel[1])
    for index, (session, y, x) in enumerate(zip(maps.tiles.session, maps.tiles.y, maps.tiles.x, strict=True)):
        values = torch.from_numpy(maps.padded(session, "zeros"))[None, None, 40 - lo :, 40 - lo :]
        unfolded = F.unfold(values, kernel, dilation, 0, stride)[0]
        across = (values.shape[3] - dilation * (kernel[1] - 1) - 1) // stride + 1
        unfolded = unfolded.view(kernel[0] * kernel[1], -1, across).permute(1, 2, 0).numpy()
        expected = unfolded[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        assert np.array_equal(found[index], expected)


@given(sizes=sizes, factor=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 99))
def test_corners_are_bilinear_with_aligned_corners(sizes, factor, seed):
    maps = Maps(sizes, seed)
    tile = TILE * factor
    rows, weights = maps.tables.corners(STRIDE, maps.tiles, tile, factor)
    values = maps.read(rows).reshape(4, -1, tile, tile) * weights.numpy().reshape(4, -1, tile, tile)
    found = values.sum(axis=0)
    for index, (session, y, x) in enumerate(zip(maps.tiles.session, maps.tiles.y, maps.tiles.x, strict=True)):
        whole = torch.from_numpy(maps.whole[session])[None, None]
        large = F.interpolate(whole, scale_factor=factor, mode="bilinear", align_corners=True)[0, 0].numpy()
        expected = large[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        assert np.allclose(found[index][maps.inside(session, y, x, tile)], expected)


@given(
    sizes=sizes,
    kernel=st.integers(1, 4),
    stride=st.sampled_from([1, 2]),
    lo=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_inside_counts_are_those_of_an_average_that_leaves_out_padding(sizes, kernel, stride, lo, seed):
    sizes = [(2 * h, 2 * w) for h, w in sizes]
    maps = Maps(sizes, seed)
    tile = TILE // stride
    axis = Axis(kernel, stride, 1, lo, 4)
    counts = maps.tables.inside_counts(STRIDE, maps.tiles, tile, Window(axis, axis)).numpy()[:, 0]
    for index, (session, y, x) in enumerate(zip(maps.tiles.session, maps.tiles.y, maps.tiles.x, strict=True)):
        ones = F.pad(torch.ones(1, 1, *maps.whole[session].shape), (lo, 8, lo, 8))
        expected = F.avg_pool2d(ones, kernel, stride, divisor_override=1)[0, 0].numpy()
        expected = expected[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        assert np.array_equal(counts[index], np.maximum(expected, 1))


@given(sizes=sizes, seed=st.integers(0, 99))
def test_whole_maps_and_the_tiles_in_them(sizes, seed):
    maps = Maps(sizes, seed)
    for session, whole in enumerate(maps.whole):
        found = maps.read(maps.tables.whole(STRIDE, session))
        assert np.array_equal(found, whole.ravel())
        mine = maps.tiles.session == session
        if not mine.any():
            continue
        positions = maps.tables.positions(STRIDE, maps.tiles, session)
        cut = found[positions.numpy()].reshape(-1, TILE, TILE)
        for index, (y, x) in enumerate(zip(maps.tiles.y[mine], maps.tiles.x[mine], strict=True)):
            edge = np.pad(whole, ((0, TILE), (0, TILE)), mode="edge")
            assert np.array_equal(cut[index], edge[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE])


@given(sizes=sizes, seed=st.integers(0, 99), top=st.integers(-6, 3), left=st.integers(-6, 3))
def test_bands_cover_what_lies_outside(sizes, seed, top, left):
    maps = Maps(sizes, seed)
    rows, columns = 9, 7
    found = np.zeros((maps.tiles.count, rows, columns), dtype=np.bool_)
    for index, across, along in maps.tables.outside(STRIDE, maps.tiles, TILE, (top, rows, left, columns)):
        view = found[index.numpy()]
        view[:, across, along] = True
        found[index.numpy()] = view
    for index, (session, y, x) in enumerate(zip(maps.tiles.session, maps.tiles.y, maps.tiles.x, strict=True)):
        height, width = maps.whole[session].shape
        ys, xs = y * TILE + top + np.arange(rows), x * TILE + left + np.arange(columns)
        outside = ((ys < 0) | (ys >= height))[:, None] | ((xs < 0) | (xs >= width))
        assert np.array_equal(found[index], outside)


def test_a_table_is_made_once_for_all_layers_that_read_alike():
    maps = Maps([(8, 8)])
    first = maps.tables.window(STRIDE, maps.tiles, (-1, 6), (-1, 6))
    assert maps.tables.window(STRIDE, maps.tiles, (-1, 6), (-1, 6)) is first
    assert maps.tables.window(STRIDE, maps.tiles, (-1, 6), (-1, 6), "replicate") is not first
