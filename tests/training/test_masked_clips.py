"""Clips for training under masks: their labels stay exact, and every share of bins comes up."""

import numpy as np
import pytest
import torch

from support.batches import estimate
from support.frames import photo
from tilestream.engine.motion.estimators import DisMotion, NoMotion
from tilestream.engine.motion.luma import thumbnails
from tilestream_training import masked_clips
from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import IGNORE_LABEL, Sample
from tilestream_training.masked_clips import (
    Clip,
    as_sent,
    cut,
    draw_bins,
    draw_times,
    drive_through,
    load_streets,
    same_view,
)


def blocks() -> Sample:
    """Blocks of 20 pixels, each label a brightness of its own."""
    labels = np.random.default_rng(0).integers(0, 8, (6, 8)).repeat(20, 0).repeat(20, 1).astype(np.uint8)
    return Sample(np.repeat((20 + 25 * labels)[..., None], 3, axis=2), labels, "blocks")


@pytest.mark.parametrize("seed", range(6))
def test_labels_of_a_drive_lie_where_the_picture_does(seed):
    clip = drive_through(blocks(), [0, 3, 6], np.random.default_rng(seed))
    known = clip.labels != IGNORE_LABEL
    assert known.mean() > 0.5
    told = np.rint((clip.images.mean(axis=3) - 20) / 25)
    # cubic interpolation and noise blur what is within a pixel or so of a border
    assert (told[known] == clip.labels[known]).mean() > 0.85


def test_a_drive_is_a_motion_that_the_engine_can_follow():
    photos = Sample(photo(192, 144, 3), np.zeros((144, 192), dtype=np.uint8), "photo")
    flows = []
    for seed in range(8):
        clip = drive_through(photos, [0, 1], np.random.default_rng(seed))
        before, now = thumbnails(list(torch.from_numpy(clip.images[:2])), 1).numpy()
        flows.append(float(estimate(DisMotion(), before, now, 1).flow.abs().mean()))
    assert max(flows) > 1.0
    assert max(flows) < 20.0


def test_times_begin_with_a_whole_frame_and_go_forward():
    times = [draw_times(4, np.random.default_rng(seed)) for seed in range(20)]
    assert all(each[0] == 0 and len(each) == 4 for each in times)
    steps = np.diff(times, axis=1)
    assert steps.min() == 1 and steps.max() == 3


def test_cuts_are_consecutive_frames_sometimes_backwards():
    numbers = np.arange(10, dtype=np.uint8)[:, None, None]
    clip = Clip(np.repeat(numbers[..., None], 3, axis=3), numbers)
    steps = {
        tuple(np.diff(cut(clip, [0, 2, 3], np.random.default_rng(seed)).labels.ravel().astype(int)))
        for seed in range(40)
    }
    assert steps == {(2, 1), (-1, -2)}


def test_a_view_is_the_same_for_every_frame():
    image, labels = photo(96, 80, 1), np.indices((80, 96)).sum(axis=0).astype(np.uint8) // 8
    clip = Clip(np.stack([image] * 3), np.stack([labels] * 3))
    options = AugmentOptions(crop=(64, 64), scale=(0.9, 1.3), jitter=0.5)
    seen = same_view(clip, options, np.random.default_rng(2))
    assert seen.images.shape == (3, 64, 64, 3)
    assert all(np.array_equal(seen.images[0], other) for other in seen.images)
    assert all(np.array_equal(seen.labels[0], other) for other in seen.labels)


def test_bins_of_every_share_are_drawn_and_all_blocks_of_a_bin_together():
    still = estimate(NoMotion(), *[np.zeros((160, 224), dtype=np.uint8)] * 2, 2)
    labels = np.zeros((320, 448), dtype=np.uint8)
    masks = [
        draw_bins((5, 7), 8, still, labels, 64, (0.1, 0.6), np.random.default_rng(seed)) for seed in range(60)
    ]
    assert all(mask.shape == (8, 5, 7) and (mask == mask[:1]).all() for mask in masks)
    shares = [mask.mean() for mask in masks]
    assert min(shares) < 0.15 and max(shares) > 0.55
    assert min(shares) >= 3 / 35 and max(shares) <= 0.61


def test_bins_with_class_borders_are_drawn_more_often():
    still = estimate(NoMotion(), *[np.zeros((160, 224), dtype=np.uint8)] * 2, 2)
    labels = np.zeros((320, 448), dtype=np.uint8)
    labels[64:128, 64:384:8] = 1  # the second row of bins
    masks = [
        draw_bins((5, 7), 1, still, labels, 64, (0.2, 0.2), np.random.default_rng(seed)) for seed in range(60)
    ]
    drawn = np.mean(masks, axis=(0, 1))
    assert drawn[1, 1:6].mean() > 1.5 * drawn[2:].mean()
    assert drawn[2:].mean() > 0.05


def test_every_frame_is_sent_with_noise_of_its_own():
    ramp = np.linspace(60, 190, 96, dtype=np.uint8)  # nothing that JPEG loses
    clear = np.broadcast_to(ramp[None, None, :, None], (3, 80, 96, 3)).copy()
    kept = clear.copy()
    strengths = []
    for seed in range(8):
        sent = as_sent(clear, 3.0, np.random.default_rng(seed))
        assert sent.shape == clear.shape and sent.dtype == np.uint8
        assert not np.array_equal(sent[0], sent[1])
        strengths.append(float(np.std(sent.astype(float) - clear)))
    assert np.array_equal(clear, kept)
    assert max(strengths) > 2 * min(strengths)
    assert max(strengths) < 4


def test_streets_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setattr(masked_clips, "STREET_FRAMES", 2)
    first = load_streets(1, tmp_path)
    monkeypatch.setattr(masked_clips, "SyntheticStreet", None)
    again = load_streets(1, tmp_path)
    assert first[0].images.shape == (2, 360, 480, 3)
    assert np.array_equal(first[0].images, again[0].images)
    assert np.array_equal(first[0].labels, again[0].labels)
    assert load_streets(0, tmp_path) == ()
