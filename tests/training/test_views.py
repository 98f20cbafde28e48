"""Views cut on the device: decided by seed and step, labels and soft labels on their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support.operations import count_operations
from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import IGNORE_LABEL, Sample
from tilestream_training.sampling import Source
from tilestream_training.stills import Stills, hold_stills
from tilestream_training.views import Views, draw_views

CPU = torch.device("cpu")
MEAN = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
PLAIN = AugmentOptions(crop=(32, 48), jitter=0.0, mix=0.0, rotation=0.0)


def source(*labels: np.ndarray, share: float = 1.0) -> Source:
    """Stills whose gray shows the class, 20 apart."""
    samples = [Sample(np.repeat(x[..., None] * 20 + 10, 3, axis=2).astype(np.uint8), x, "") for x in labels]
    return Source(tuple(samples), share, ())


def blocks(height: int, width: int, size: int = 16, classes: int = 6) -> np.ndarray:
    rows, columns = np.arange(height) // size, np.arange(width) // size
    return ((rows[:, None] * 5 + columns[None, :] * 3) % classes).astype(np.uint8)


def plain(*values: int, height: int = 40, width: int = 60) -> Source:
    return source(*(np.full((height, width), value, np.uint8) for value in values))


def draw(stills: Stills, batch: int = 4, options: AugmentOptions = PLAIN, step: int = 0, **more) -> Views:
    return draw_views(stills, batch, options, MEAN, more.pop("seed", 0), step, **more)


def parts(views: Views) -> list[Tensor]:
    return [part for part in (views.images, views.labels, views.soft) if part is not None]


def test_shapes_and_types():
    soft = [np.full((3, 10, 15), 1 / 3, np.float16)] * 2
    views = draw(hold_stills([plain(0, 1)], 3, CPU, soft), 3)
    assert views.images.shape == (3, 3, 32, 48) and views.images.dtype == torch.float32
    assert views.labels.shape == (3, 32, 48) and views.labels.dtype == torch.int64
    assert views.soft.shape == (3, 3, 8, 12) and views.soft.dtype == torch.float32


def test_seed_and_step_decide():
    stills = hold_stills([source(blocks(64, 96), blocks(48, 96))], 6, CPU)
    options = AugmentOptions(crop=(32, 48))
    first = draw(stills, options=options, seed=5, step=17)
    draw(stills, options=options, seed=5, step=18)
    again = draw(stills, options=options, seed=5, step=17)
    assert all(torch.equal(a, b) for a, b in zip(parts(first), parts(again), strict=True))
    others = [draw(stills, options=options, seed=s, step=t) for s, t in ((5, 18), (6, 17))]
    assert not any(torch.equal(first.labels, other.labels) for other in others)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    crop=st.tuples(st.integers(2, 16), st.integers(2, 16)),
    size=st.tuples(st.integers(16, 128), st.integers(16, 128)),
    jitter=st.sampled_from([0.0, 0.5, 1.0]),
    mix=st.sampled_from([0.0, 1.0]),
)
def test_any_view_has_the_crops_size_and_known_labels(seed, crop, size, jitter, mix):
    crop = (crop[0] * 4, crop[1] * 4)
    stills = hold_stills([source(blocks(*size), blocks(40, 40))], 6, CPU)
    options = AugmentOptions(crop=crop, scale=(0.5, 3.0), jitter=jitter, mix=mix)
    views = draw(stills, 3, options, seed=seed)
    assert views.images.shape == (3, 3, *crop) and views.labels.shape == (3, *crop)
    assert torch.isfinite(views.images).all() and views.images.min() >= 0 and views.images.max() <= 1
    assert set(views.labels.unique().tolist()) <= {*range(6), IGNORE_LABEL}


@pytest.mark.parametrize("seed", range(6))
def test_image_and_labels_move_together(seed):
    """Inside a square of one class, the gray is that of the class, whatever the zoom, turn and flip."""
    options = AugmentOptions(crop=(64, 80), scale=(0.9, 2.0), jitter=0.0, mix=0.0)
    views = draw(hold_stills([source(blocks(96, 128))], 6, CPU), 2, options, seed=seed)
    around = views.labels.float()[:, None]
    least, most = -F.max_pool2d(-around, 7, 1, 3)[:, 0], F.max_pool2d(around, 7, 1, 3)[:, 0]
    inside = (least == most) & (most != IGNORE_LABEL)
    inside[:, :3] = inside[:, -3:] = inside[:, :, :3] = inside[:, :, -3:] = False
    assert inside.float().mean() > 0.1
    expected = (views.labels * 20 + 10)[inside] / 255
    torch.testing.assert_close(views.images[:, 0][inside], expected, atol=0.02, rtol=0)


def test_whole_classes_of_the_view_before_are_pasted_in():
    soft = [np.random.default_rng(0).random((6, 24, 32)).astype(np.float16)]
    stills = hold_stills([source(blocks(96, 128))], 6, CPU, soft)
    own, mixed = (
        draw(stills, 4, AugmentOptions(crop=(64, 80), scale=(1.0, 2.0), jitter=0.0, mix=mix))
        for mix in (0.0, 1.0)
    )
    for view in range(4):
        before = view - 1
        pasted = (mixed.images[view] != own.images[view]).any(dim=0)
        assert 0.05 < pasted.float().mean() < 0.95
        assert torch.equal(mixed.images[view][:, pasted], own.images[before][:, pasted])
        assert torch.equal(mixed.labels[view][pasted], own.labels[before][pasted])
        assert torch.equal(mixed.labels[view][~pasted], own.labels[view][~pasted])
        others = (mixed.soft[view] != own.soft[view]).any(dim=0)
        assert torch.equal(mixed.soft[view][:, others], own.soft[before][:, others])
        taken, left = (set(own.labels[before][where].tolist()) for where in (pasted, ~pasted))
        assert taken and IGNORE_LABEL not in taken and taken != left


@pytest.mark.parametrize("size", [(40, 40), (30, 50)])
def test_beyond_a_still_is_the_mean_colour_and_ignored(size):
    """Also where a larger still lies beside it in memory."""
    small, large = plain(3, height=size[0], width=size[1]), plain(1, height=96, width=160)
    stills = hold_stills([small, Source(large.samples, 1e-9, ())], 4, CPU)
    options = AugmentOptions(crop=(120, 120), scale=(1.0, 1.0), jitter=0.0, mix=0.0, rotation=0.0)
    views = draw(stills, 1, options)
    inside = views.labels[0] == 3
    assert 0.07 < inside.float().mean() < 0.16
    assert (views.labels[0][~inside] == IGNORE_LABEL).all()
    right = (views.images[0] - MEAN[0]).abs().amax(dim=0) < 1e-6
    assert right[~inside].float().mean() > 0.9 and not right[inside].any()


def test_a_class_is_drawn_first_in_the_share_of_the_focus():
    stills = hold_stills([plain(*[0] * 49, 1)], 2, CPU)
    options = AugmentOptions(crop=(8, 8), jitter=0.0, mix=0.0)
    for focus, low, high in ((0.0, 0.0, 0.1), (1.0, 0.35, 0.65)):
        labels = draw(stills, 200, options, focus_share=focus).labels
        assert low <= float((labels == 1).any(dim=2).any(dim=1).float().mean()) <= high


def test_a_rare_spot_is_seen_by_every_view_put_on_it():
    labels = np.full((96, 128), IGNORE_LABEL, np.uint8)
    labels[90:, 122:] = 7
    stills = hold_stills([source(labels)], 8, CPU)
    views = draw(stills, 40, AugmentOptions(crop=(32, 32), jitter=0.0, mix=0.0), focus_share=1.0)
    assert (views.labels == 7).any(dim=2).any(dim=1).all()


def test_sources_are_drawn_by_share():
    stills = hold_stills([Source(plain(0).samples, 3.0, ()), plain(1)], 2, CPU)
    labels = draw(stills, 400, AugmentOptions(crop=(8, 8), scale=(1, 1), jitter=0.0, mix=0.0)).labels
    assert 0.65 < float((labels.amin(dim=(1, 2)) == 0).float().mean()) < 0.85


def test_about_half_of_the_views_are_flipped():
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None], (50, 1))
    options = AugmentOptions(crop=(20, 20), scale=(1.0, 1.0), jitter=0.0, mix=0.0)
    labels = draw(hold_stills([source(ramp % 12)], 12, CPU), 100, options).labels
    ramps = draw(hold_stills([source((ramp // 10).astype(np.uint8))], 10, CPU), 100, options).labels
    assert labels.shape == ramps.shape
    assert 30 <= int((ramps[:, 10, 1] > ramps[:, 10, -2]).sum()) <= 70


def test_light_changes_colours_but_not_labels():
    stills = hold_stills([source(blocks(64, 64))], 6, CPU)
    dark, bright = (
        draw(stills, options=AugmentOptions(crop=(48, 48), jitter=jitter, mix=1.0)) for jitter in (0.0, 1.0)
    )
    assert dark.labels.shape == bright.labels.shape and not torch.equal(dark.images, bright.images)


def test_soft_labels_follow_the_view_as_labels_do():
    """Of stills that are plain within cells of 4 pixels, they are those of the view's labels."""
    labels = blocks(64, 96)
    known = F.one_hot(torch.from_numpy(labels).long(), 6).permute(2, 0, 1)[None].float()
    soft = F.avg_pool2d(known, 4)[0].half().numpy()
    options = AugmentOptions(crop=(64, 64), scale=(0.7, 2.0), jitter=0.0, mix=0.5)
    views = draw(hold_stills([source(labels)], 6, CPU, [soft]), 6, options)
    valid = (views.labels != IGNORE_LABEL)[:, None]
    direct = F.one_hot(views.labels.clamp_max(5), 6).permute(0, 3, 1, 2) * valid
    sampled = F.avg_pool2d(direct.float(), 4)
    # Away from borders of classes and stills both are certain, and of the same class.
    certain = F.max_pool2d(-sampled.amax(dim=1), 5, 1, 2) < -0.999
    certain &= F.max_pool2d(-views.soft.amax(dim=1), 3, 1, 1) < -0.999
    assert certain.float().mean() > 0.02
    torch.testing.assert_close(
        views.soft.permute(0, 2, 3, 1)[certain], sampled.permute(0, 2, 3, 1)[certain], atol=1e-3, rtol=0
    )


def test_a_view_takes_as_many_calls_whatever_the_batch():
    stills = hold_stills([source(blocks(64, 96))], 6, CPU)
    one, many = (
        count_operations(lambda batch=batch: draw(stills, batch, AugmentOptions(crop=(32, 32))))
        for batch in (2, 9)
    )
    assert one == many
