"""References follow the motion in whole features, and what is left over is not forgotten."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilestream.engine.memory.row_map import RowMap

H, W = 12, 15
ZERO = 9999


def numbered(height: int = H, width: int = W) -> RowMap:
    """A map whose references are its positions, in raster order."""
    rows = RowMap(height, width, ZERO)
    rows.inner[...] = np.arange(height * width).reshape(height, width)
    return rows


def constant(x: float, y: float, height: int = H, width: int = W) -> np.ndarray:
    return np.full((height, width, 2), (x, y), dtype=np.float32)


def shifts(rows: RowMap) -> tuple[np.ndarray, np.ndarray]:
    """By how many features (x, y) each reference is away from where it is used."""
    y, x = np.divmod(rows.inner, rows.width)
    return x - np.arange(rows.width), y - np.arange(rows.height)[:, None]


def rim(rows: RowMap) -> np.ndarray:
    inside = np.zeros(rows.rows.shape, dtype=np.bool_)
    inside[1:-1, 1:-1] = True
    return rows.rows[~inside]


def test_a_new_map_refers_to_nothing():
    assert (RowMap(3, 4, 77).rows == 77).all()


@given(x=st.integers(-20, 20), y=st.integers(-20, 20))
def test_whole_features_move_exactly_and_borders_repeat(x, y):
    rows = numbered()
    rows.move(constant(x, y))
    columns = np.clip(np.arange(W) + x, 0, W - 1)
    lines = np.clip(np.arange(H) + y, 0, H - 1)
    assert np.array_equal(rows.inner, lines[:, None] * W + columns)
    assert (rim(rows) == ZERO).all()


def test_no_motion_changes_nothing():
    rows = numbered()
    rows.move(constant(0.3, 0))
    before, remainder = rows.rows.copy(), rows.remainder.copy()
    rows.move(constant(0, 0))
    assert np.array_equal(rows.rows, before)
    assert np.array_equal(rows.remainder, remainder)


@given(x=st.floats(-4, 4, width=32), y=st.floats(-4, 4, width=32))
def test_there_and_back_again_is_where_it_was(x, y):
    rows = numbered()
    rows.move(constant(x, y))
    rows.move(constant(-x, -y))
    # what went beyond the border is gone
    margin_x, margin_y = int(np.ceil(abs(x))) + 1, int(np.ceil(abs(y))) + 1
    inner = (slice(margin_y, H - margin_y), slice(margin_x, W - margin_x))
    assert np.array_equal(rows.inner[inner], numbered().inner[inner])
    assert rows.remainder is None or np.abs(rows.remainder[inner]).max(initial=0.0) < 1e-5


@given(steps=st.lists(st.tuples(st.floats(-1.5, 1.5, width=32), st.floats(-1.5, 1.5, width=32)), max_size=12))
def test_rounding_never_adds_up(steps):
    """After any number of moves, every reference is within half a feature of the sum of them."""
    rows = numbered(50, 50)
    for x, y in steps:
        rows.move(constant(x, y, 50, 50))
    total = np.sum(np.array(steps, dtype=np.float64).reshape(-1, 2), axis=0)
    middle = (slice(20, 30), slice(20, 30))
    for found, expected in zip(shifts(rows), total, strict=True):
        assert np.abs(found[middle] - expected).max() <= 0.5 + 1e-4


def test_small_steps_add_up():
    rows = numbered()
    for _ in range(10):
        rows.move(constant(0.3, 0.0))
    x, y = shifts(rows)
    assert (x[:, :-4] == 3).all()
    assert (y == 0).all()


@given(seed=st.integers(0, 1000))
def test_uneven_motion_stays_inside(seed):
    random = np.random.default_rng(seed)
    rows = numbered()
    for _ in range(5):
        rows.move(random.normal(0, 3, (H, W, 2)).astype(np.float32))
        assert ((rows.inner >= 0) & (rows.inner < H * W)).all()
        assert np.abs(rows.remainder).max() <= 1.0
    assert (rim(rows) == ZERO).all()


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_placed_tiles_refer_to_their_pages(height, width, seed):
    tile = 4
    random = np.random.default_rng(seed)
    rows = RowMap(height, width, ZERO)
    rows.move(constant(0.4, 0.4, height, width))
    chosen = random.random((-(-height // tile), -(-width // tile))) < 0.5
    y, x = np.nonzero(chosen)
    pages = random.permutation(100)[: len(y)]
    rows.place(tile, y, x, pages)
    page_of = np.full(chosen.shape, -1)
    page_of[y, x] = pages
    for i in range(height):
        for j in range(width):
            page = page_of[i // tile, j // tile]
            expected = ZERO if page < 0 else page * tile**2 + i % tile * tile + j % tile
            assert rows.inner[i, j] == expected
            assert (rows.remainder[i, j] == 0).all() == (page >= 0)
    assert (rim(rows) == ZERO).all()


def test_pages_that_are_referred_to():
    rows = RowMap(4, 8, ZERO)
    rows.place(4, np.array([0, 0]), np.array([0, 1]), np.array([7, 3]))
    assert set(rows.live_pages(4)) == {3, 7}
    rows.move(constant(3, 0, 4, 8))
    assert set(rows.live_pages(4)) == {3, 7}
    rows.move(constant(1, 0, 4, 8))
    assert set(rows.live_pages(4)) == {3}
