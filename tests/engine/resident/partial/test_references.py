"""References of all slots follow the motion as those of one session do on the host."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.reuse_engines import CPU
from tilestream.engine.memory.row_map import RowMap
from tilestream.engine.motion.flow import Motion
from tilestream.engine.resident.partial.kernels import RowKernels
from tilestream.engine.resident.partial.references import References, on_grid
from tilestream.engine.resident.partial.tile_sets import DeviceTiles
from tilestream.engine.tiles.tables import TileSet

ZERO = 9999
SLOTS = 4


def tile_list(slots, y, x, pages):
    """Tiles on the device, and one that only fills up."""
    columns = [[*slots, SLOTS], [*y, 0], [*x, 0], [*pages, 1000]]
    slot, row, column, page = (torch.tensor(values, dtype=torch.int32) for values in columns)
    host = TileSet(np.array(slots), np.array(y), np.array(x))
    return DeviceTiles(host, torch.zeros_like(slot), slot, row, column, page)


def place_all(references, maps, tile, random):
    """Some tiles of every slot get new pages, here and there."""
    bins = -(-maps[0].height // tile), -(-maps[0].width // tile)
    chosen = np.nonzero(random.random((SLOTS, *bins)) < 0.6)
    pages = random.permutation(1000)[: len(chosen[0])]
    references.place(tile_list(*(axis.tolist() for axis in chosen), pages.tolist()))
    for slot, rows in enumerate(maps):
        mine = chosen[0] == slot
        rows.place(tile, chosen[1][mine], chosen[2][mine], pages[mine])


@settings(max_examples=40)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    tile=st.sampled_from([1, 2, 4, 8]),
    speed=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    seed=st.integers(0, 999),
)
def test_they_are_the_row_maps_of_the_host(height, width, tile, speed, seed):
    random = np.random.default_rng(seed)
    references = References(SLOTS, (height, width), tile, ZERO, CPU, RowKernels())
    maps = [RowMap(height, width, ZERO) for _ in range(SLOTS)]
    for _ in range(3):
        place_all(references, maps, tile, random)
        moving = random.permutation(SLOTS)[: random.integers(1, SLOTS + 1)]
        motion = random.normal(0, speed, (len(moving), height, width, 2)).astype(np.float32)
        motion = np.where(random.random(motion.shape) < 0.3, np.round(motion * 2) / 2, motion)
        motion[0] *= random.random() < 0.8  # some stand still
        references.move(torch.from_numpy(moving), torch.from_numpy(motion.astype(np.float32)))
        for slot, displacement in zip(moving, motion.astype(np.float32), strict=True):
            maps[slot].move(displacement)
        for slot, rows in enumerate(maps):
            assert np.array_equal(references.rows[slot].numpy(), rows.rows)
            remainder = np.zeros((height, width, 2)) if rows.remainder is None else rows.remainder
            assert np.array_equal(references.remainder[slot].numpy(), remainder)


@pytest.mark.parametrize(("scale", "stride"), [(1, 1), (1, 4), (2, 8), (4, 4), (4, 2), (8, 1), (8, 32)])
@pytest.mark.parametrize(("height", "width"), [(24, 40), (30, 33), (8, 71)])
def test_motion_on_a_map_s_grid_is_that_of_the_host(scale, stride, height, width):
    shape = (3, -(-height // scale), -(-width // scale), 2)
    flow = torch.from_numpy(np.random.default_rng(0).normal(0, 3, shape).astype(np.float32))
    rows, columns = -(-height // stride), -(-width // stride)
    motion = Motion(flow, torch.zeros(shape[:3], dtype=torch.bool), scale)
    expected = motion.at_stride(stride, rows, columns)
    assert torch.allclose(on_grid(flow, scale, stride, rows, columns), expected, atol=1e-5)


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        on_grid(torch.zeros(1, 4, 4, 2), 3, 2, 4, 4)
