"""The operations in plain torch against OpenCV and the engine of the host."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tilestream.engine.dense.labels import upsampled_labels, with_rim
from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.motion.luma import thumbnails
from tilestream.engine.resident import reference

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(16, 24), (17, 27), (1, 5)])
def test_luma_is_that_of_the_host(scale, size):
    images = torch.from_numpy(RANDOM.integers(0, 256, (3, *size, 3), dtype=np.uint8))
    found = reference.luma(images.permute(0, 3, 1, 2), scale)
    expected = thumbnails(images, scale)
    assert found.shape == expected.shape and found.dtype == torch.uint8
    difference = (found.int() - expected.int()).abs()
    assert difference.max() <= (scale > 1)  # halves are rounded otherwise
    assert difference.float().mean() < 0.3


@pytest.mark.parametrize("scale", [1, 2])
def test_labels_move_as_on_the_host(scale):
    height, width = 32, 48
    labels = RANDOM.integers(0, 5, (4, height // 4, width // 4), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    table = torch.from_numpy(labels)
    shape = (height // scale, width // scale)
    coarse = torch.from_numpy(RANDOM.uniform(-6, 6, (2, 2, 4, 6)).astype(np.float32))
    displacement = F.interpolate(coarse, size=shape, mode="bilinear")
    slots = torch.tensor([3, 1])
    found = reference.moved_labels(table, slots, displacement, scale)
    for index, slot in enumerate(slots.tolist()):
        mine = LabelMap(height, width, 16, 1)
        mine.replace(table[slot])
        mine.move(displacement[index].permute(1, 2, 0).contiguous(), scale)
        assert (found[index] != mine.plane(0)).float().mean() < 0.01
    few = reference.moved_labels(table, slots, displacement, scale, 4)
    assert torch.equal(few, found[:, 2::4, 2::4])


def test_labels_that_do_not_move_are_the_same():
    table = torch.from_numpy(RANDOM.integers(0, 256, (3, 17, 23), dtype=np.uint8))
    found = reference.moved_labels(table, torch.tensor([2, 0, 2]), torch.zeros((3, 2, 9, 12)), 2)
    assert torch.equal(found, table[[2, 0, 2]])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_best_labels_are_those_of_the_dense_path(factor):
    scores = torch.from_numpy(RANDOM.normal(size=(2, 7, 5, 6)).astype(np.float32))
    out = torch.empty((2, 5 * factor - 1, 6 * factor - 3), dtype=torch.uint8)
    reference.best_labels(scores, factor, out)
    expected = upsampled_labels(with_rim(scores), factor)[:, : out.shape[1], : out.shape[2]]
    assert (out != expected).float().mean() < 1e-3


def test_frames_are_normalized_and_padded_as_on_the_host():
    images = torch.from_numpy(RANDOM.integers(0, 256, (4, 30, 45, 3), dtype=np.uint8))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    host = Normalizer(mean, std, torch.device("cpu"), torch.float32)
    rows = torch.tensor([3, 0])
    out = torch.full((3, 3, 32, 64), 9.0).contiguous(memory_format=torch.channels_last)
    reference.normalized(images.permute(0, 3, 1, 2), rows, host._scale, host._shift, out)
    expected = host.whole([images[3], images[0]], 32)
    assert torch.allclose(out[:2], expected, atol=1e-6)
    assert (out[2] == 9).all()  # beyond what was asked for


def test_the_patches_cover_every_pixel():
    for side in range(1, 60):
        rows, _ = reference.grid(side, 9)
        assert (rows - 1) * reference.SPACING + reference.PATCH >= side
        assert rows == 1 or (rows - 1) * reference.SPACING < side


def test_luma_weights_are_those_of_opencv():
    colours = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = reference.luma(torch.from_numpy(colours).permute(2, 0, 1)[None], 1)
    assert np.array_equal(found[0].numpy(), cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY))
