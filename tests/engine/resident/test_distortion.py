"""Distortion, age and cuts of a batch: what the host reckons from the same motion."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from support.motions import motions
from support.textures import texture
from tilestream.engine.motion.distortion import BinSignals, DistortionTracker
from tilestream.engine.resident.distortion import BatchTracker, _is_cut
from tilestream.engine.resident.motion import BatchMotion

CPU = torch.device("cpu")
SHAPES = [
    ((32, 48), 1, 16, (2, 3)),
    ((33, 50), 2, 32, (3, 4)),
    ((24, 40), 2, 64, (1, 2)),
    ((9, 9), 1, 1, (9, 9)),
]
"""Of thumbnails, their scale, the bins' side, and how many there are."""


def trackers(shape, scale, side, bins):
    return DistortionTracker(side, bins, scale, shape), BatchTracker(side, bins, scale, shape, CPU)


def thumbnails(count, shape):
    return torch.from_numpy(np.stack([texture(*shape, seed) for seed in range(count)]))


def close(found, expected):
    """But for OpenCV's lookups, which know 32 places between two pixels, which differ by 30 steps here."""
    difference = (found - expected).abs()
    return difference.max() < 1.5 and difference.mean() < 0.1


@pytest.mark.parametrize(("shape", "scale", "side", "bins"), SHAPES)
def test_frame_after_frame_it_is_that_of_the_host(shape, scale, side, bins):
    host, ours = trackers(shape, scale, side, bins)
    assert (ours.cell, ours.cells) == (host.cell, host._cells)
    current = thumbnails(3, shape)
    state = torch.zeros((3, 2, *ours.cells))
    theirs = [host.start() for _ in range(3)]
    for seed in range(4):
        seen, batch = motions(shape, scale, seed=seed)
        found = ours.advance(state, current, batch)
        expected = host.advance(theirs, current, current, seen)
        assert close(found.state, expected.state.permute(0, 3, 1, 2))
        assert close(found.fine, expected.fine.permute(0, 3, 1, 2))
        for each in fields(BinSignals):
            mine, other = getattr(found.signals, each.name), getattr(expected.signals, each.name)
            assert mine.dtype == other.dtype and mine.shape == other.shape
            assert close(mine.float(), other.float()), each.name
        state, theirs = found.state, list(expected.state)


def test_what_is_still_only_grows_older():
    _, ours = trackers(*SHAPES[1])
    _, batch = motions(SHAPES[1][0], 2)
    state = torch.rand((3, 2, *ours.cells)) * 9
    found = ours.advance(state, thumbnails(3, SHAPES[1][0]), batch)
    assert torch.equal(found.state[2, 0], state[2, 0])
    assert torch.equal(found.state[2, 1], state[2, 1] + 1)
    assert not found.signals.scene_cut[2] and (found.signals.current[2] == 0).all()


@pytest.mark.parametrize("contrast", [1.0, 0.15])
@pytest.mark.parametrize("strange", [0, 3, 12, 40, 90])
@pytest.mark.parametrize("occluded", [0.0, 0.2, 0.3])
def test_cuts_are_those_of_the_host(contrast, strange, occluded):
    shape, scale, side, bins = SHAPES[0]
    host, ours = trackers(shape, scale, side, bins)
    rng = np.random.default_rng(0)
    current = torch.from_numpy((texture(*shape) * contrast).astype(np.uint8))[None]
    seen, batch = motions(shape, scale, count=2)
    residual = torch.from_numpy((rng.random((2, *shape)) * strange).astype(np.uint8))
    hidden = torch.zeros((2, *shape), dtype=torch.bool)
    hidden[:, : round(occluded * shape[0])] = True
    theirs = type(seen)(seen.flow, hidden, scale, residual, torch.tensor([False, False]))
    mine = BatchMotion(batch.flow, hidden, residual.float(), torch.tensor([False, False]))
    thumbs = current.expand(2, -1, -1).contiguous()
    expected = host.advance([host.start()] * 2, thumbs, thumbs, theirs).signals.scene_cut
    found = ours.advance(torch.zeros((2, 2, *ours.cells)), thumbs, mine).signals.scene_cut
    assert torch.equal(found, expected)


def test_there_are_cuts_and_none():
    dark, bright = torch.full((1, 8, 8), 9, dtype=torch.uint8), torch.arange(64).view(1, 8, 8) * 4
    none = torch.zeros((1, 4, 4))
    assert not _is_cut(none, none, bright.to(torch.uint8))
    assert _is_cut(none + 30, none, bright.to(torch.uint8))
    assert _is_cut(none, none + 1, dark)
    assert not _is_cut(none + 5, none, dark)
    assert _is_cut(none + 7, none, dark)


@pytest.mark.parametrize(("side", "bins"), [(3, (11, 16)), (16, (1, 3))])
def test_what_does_not_fit_together_is_refused(side, bins):
    with pytest.raises(ValueError, match="bins"):
        BatchTracker(side, bins, 2, (32, 48), CPU)
