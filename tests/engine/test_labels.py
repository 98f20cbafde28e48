"""The label map follows the motion without losing what is smaller than a pixel."""

import numpy as np
import pytest
import torch

from tilestream.engine.memory.labels import LabelMap


def shifted(flow: tuple[float, float], height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.tensor(flow, dtype=torch.float32).repeat(height, width, 1)


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 11, (48, 64), dtype=np.uint8))


def test_small_motions_add_up(picture):
    labels = LabelMap(48, 64, 16, 1)
    labels.replace(picture)
    for _ in range(5):
        labels.move(shifted((0.2, -0.4)), 2)  # in all 2 pixels to the right, 4 up
    assert torch.equal(labels.plane(0)[4:, :-2], picture[:-4, 2:])


def test_bins_placed_after_a_motion_lie_where_they_are_and_move_on(picture):
    labels = LabelMap(48, 64, 16, 1)
    labels.replace(picture)
    labels.move(shifted((1, 0)), 2)
    labels.place(0, np.array([1]), np.array([2]), torch.full((1, 16, 16), 99, dtype=torch.uint8))
    found = labels.plane(0)
    assert (found[16:32, 32:48] == 99).all()
    assert torch.equal(found[:16, :-2], picture[:16, 2:])
    labels.move(shifted((1, 0)), 2)
    assert (labels.plane(0)[16:32, 30:46] == 99).all()
    assert torch.equal(labels.plane(0)[:16, :-4], picture[:16, 4:])


def test_all_planes_move_and_are_replaced_together(picture):
    labels = LabelMap(48, 64, 16, 2)
    labels.replace(picture, 255 - picture)
    labels.move(shifted((0.7, 1.2)), 2)
    assert torch.equal(labels.plane(1), 255 - labels.plane(0))
    labels.replace(picture, picture)
    assert torch.equal(labels.plane(0), picture) and torch.equal(labels.plane(1), picture)


@pytest.mark.parametrize("moved", [False, True])
def test_what_was_copied_out_does_not_change(picture, moved):
    labels = LabelMap(48, 64, 16, 1)
    labels.replace(picture)
    if moved:
        labels.move(shifted((0.5, 0)), 2)
    given = labels.copy(0)
    before = given.copy()
    assert np.array_equal(given, labels.plane(0).numpy())
    labels.place(0, np.array([0]), np.array([0]), torch.zeros((1, 16, 16), dtype=torch.uint8))
    labels.move(shifted((3, 3)), 2)
    labels.place(0, np.array([0]), np.array([0]), torch.zeros((1, 16, 16), dtype=torch.uint8))
    assert np.array_equal(given, before)


def test_labels_at_the_edge_of_a_frame_that_fills_no_whole_bins(picture):
    labels = LabelMap(43, 59, 16, 1)
    labels.replace(picture[:43, :59])
    labels.place(0, np.array([2]), np.array([3]), torch.full((1, 16, 16), 99, dtype=torch.uint8))
    expected = picture[:43, :59].clone()
    expected[32:, 48:] = 99
    assert labels.plane(0).shape == (43, 59) and torch.equal(labels.plane(0), expected)
    labels.move(shifted((1, 0), 22, 30), 2)
    assert torch.equal(labels.plane(0)[:, :-2], expected[:, 2:])
