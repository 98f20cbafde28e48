"""The synthetic street: determinism, exact labels and motion, all classes, all sizes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tilestream_street import (
    CLASS_NAMES,
    IGNORE_LABEL,
    PALETTE,
    StreetFrame,
    SyntheticStreet,
    write_clip,
)
from tilestream_street.props import shared_props

# most checks run small: what they check does not depend on size
WIDTH, HEIGHT = 240, 180


@cache
def quiet_street(seed: int) -> SyntheticStreet:
    """A street without sensor noise, kept: most of a street's cost is its first frame."""
    return SyntheticStreet(seed=seed, width=480, height=360, noise=False)


def same(a: StreetFrame, b: StreetFrame) -> bool:
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in ("image", "labels", "motion", "visible")
    )


def warped(source: NDArray[np.uint8], motion: NDArray[np.float32], how: int) -> NDArray[np.uint8]:
    """`source` of the previous frame as seen from the current one."""
    h, w = motion.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    return np.asarray(cv2.remap(source, x + motion[..., 0], y + motion[..., 1], how), dtype=np.uint8)


def away_from_borders(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    kernel = np.ones((5, 5), dtype=np.uint8)
    return np.asarray(cv2.dilate(labels, kernel) == cv2.erode(labels, kernel), dtype=np.bool_)


def check_frame(frame: StreetFrame, width: int, height: int) -> None:
    assert frame.image.shape == (height, width, 3) and frame.image.dtype == np.uint8
    assert frame.labels.shape == (height, width) and frame.labels.dtype == np.uint8
    assert frame.motion.shape == (height, width, 2) and frame.motion.dtype == np.float32
    assert frame.visible.shape == (height, width) and frame.visible.dtype == np.bool_
    assert frame.labels.max() <= IGNORE_LABEL
    assert np.isfinite(frame.motion).all()
    # what is visible came from inside the frame
    y, x = np.nonzero(frame.visible)
    assert (np.abs(x + frame.motion[y, x, 0] - (width - 1) / 2) <= width / 2).all()
    assert (np.abs(y + frame.motion[y, x, 1] - (height - 1) / 2) <= height / 2).all()


def test_class_table() -> None:
    assert len(CLASS_NAMES) == 11 and IGNORE_LABEL == 11
    assert CLASS_NAMES[0] == "sky" and CLASS_NAMES[8] == "car"
    assert PALETTE.shape == (11, 3) and PALETTE.dtype == np.uint8
    assert tuple(PALETTE[4]) == (60, 40, 222)


def test_frame_zero_has_no_past() -> None:
    frame = SyntheticStreet(seed=8, width=WIDTH, height=HEIGHT).frame(0)
    check_frame(frame, WIDTH, HEIGHT)
    assert not frame.motion.any() and not frame.visible.any()


def test_random_access_equals_sequence_and_is_deterministic() -> None:
    ordered = list(SyntheticStreet(seed=8, width=WIDTH, height=HEIGHT).frames(4, start=20))
    shared_props.cache_clear()  # nothing may come from the first street
    street = SyntheticStreet(seed=8, width=WIDTH, height=HEIGHT)
    for t in (23, 20, 400, 22, 21):
        frame = street.frame(t)
        if t < 24:
            assert same(frame, ordered[t - 20])


def test_callers_may_write_into_a_frame() -> None:
    street = quiet_street(8)
    first = street.frame(2)
    kept = first.labels.copy()
    first.labels[...] = IGNORE_LABEL
    first.image[...] = 0
    assert np.array_equal(street.frame(2).labels, kept)


def test_seeds_differ() -> None:
    a, b = (quiet_street(seed).frame(0) for seed in (3, 8))
    assert (a.labels != b.labels).mean() > 0.1
    assert np.abs(a.image.astype(int) - b.image).mean() > 10


@pytest.mark.parametrize(("seed", "t"), [(3, 12), (8, 40)])
def test_motion_is_exact(seed: int, t: int) -> None:
    street = quiet_street(seed)
    before, now = street.frame(t - 1), street.frame(t)
    seen = now.visible & away_from_borders(now.labels)
    assert now.visible.mean() > 0.8
    moved = warped(before.labels, now.motion, cv2.INTER_NEAREST)
    assert (moved == now.labels)[seen].mean() > 0.99
    truth = now.image.astype(int)
    with_motion = np.abs(warped(before.image, now.motion, cv2.INTER_LINEAR).astype(int) - truth)[seen].mean()
    without = np.abs(before.image.astype(int) - truth)[seen].mean()
    assert with_motion < 0.45 * without


def test_visible_does_not_lean_on_labels() -> None:
    """What must have been in view by depth and motion alone keeps its class: few pixels go unseen."""
    street = quiet_street(8)
    before, now = street.frame(29), street.frame(30)
    moved = warped(before.labels, now.motion, cv2.INTER_NEAREST)
    inner = away_from_borders(now.labels) & away_from_borders(before.labels)
    road = inner & (now.labels == CLASS_NAMES.index("road"))
    assert now.visible[road].mean() > 0.9
    assert (moved == now.labels)[inner].mean() > 0.9


def test_all_classes_appear() -> None:
    counts = np.zeros(11)
    frames = 0
    for seed in (8, 4, 3):
        street = SyntheticStreet(seed=seed, width=WIDTH, height=HEIGHT)
        for t in (0, 40, 90):
            counts += np.bincount(street.frame(t).labels.ravel(), minlength=11)
            frames += 1
    share = dict(zip(CLASS_NAMES, counts / (frames * WIDTH * HEIGHT), strict=True))
    for name, low, high in (
        ("sky", 0.03, 0.4), ("building", 0.08, 0.6), ("pole", 0.004, 0.1), ("road", 0.15, 0.5),
        ("pavement", 0.02, 0.3), ("tree", 0.01, 0.4), ("sign", 0.001, 0.05), ("fence", 0.004, 0.2),
        ("car", 0.01, 0.3), ("pedestrian", 0.002, 0.1), ("bicyclist", 0.001, 0.1),
    ):  # fmt: skip
        assert low < share[name] < high, share


@pytest.mark.parametrize(("width", "height"), [(320, 192), (640, 360), (101, 77)])
def test_other_sizes(width: int, height: int) -> None:
    street = SyntheticStreet(seed=8, width=width, height=height, fps=30.0)
    check_frame(street.frame(0), width, height)
    check_frame(street.frame(3), width, height)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**63), t=st.integers(0, 3000))
def test_any_seed_any_time(seed: int, t: int) -> None:
    check_frame(SyntheticStreet(seed=seed, width=96, height=64).frame(t), 96, 64)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="pixels"):
        SyntheticStreet(seed=1, width=4, height=4)
    with pytest.raises(ValueError, match="fps"):
        SyntheticStreet(seed=1, fps=0.0)
    with pytest.raises(ValueError, match="count from 0"):
        SyntheticStreet(seed=1, width=64, height=48).frame(-1)


def test_write_clip(tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    write_clip(path, seed=8, frames=3, width=160, height=120, fps=15.0)
    video = cv2.VideoCapture(str(path))
    ok, image = video.read()
    assert ok and image.shape == (120, 160, 3)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_write_clip_says_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a folder"):
        write_clip(tmp_path / "missing" / "street.mp4", seed=3, frames=1, width=64, height=48, fps=15.0)
