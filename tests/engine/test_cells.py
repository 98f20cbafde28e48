"""What the learned gate looks at follows from the frame, the motion and the labels shown before."""

import numpy as np
import pytest

from tilestream.engine.gates.cells import CELL, SIGNALS, cell_features
from tilestream.engine.motion.distortion import DistortionTracker
from tilestream.engine.motion.estimators import Motion

HEIGHT, WIDTH, CLASSES, SCALE = 100, 150, 4, 2  # no multiples of a cell
ONE_CLASS = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)


def still(flow: tuple[float, float] = (0, 0)) -> Motion:
    shape = (HEIGHT // SCALE, WIDTH // SCALE)
    field = np.broadcast_to(np.float32(flow), (*shape, 2)).copy()
    return Motion(field, np.zeros(shape, dtype=np.bool_), SCALE)


def look(labels: np.ndarray, before: np.ndarray, now: np.ndarray, motion: Motion) -> dict[str, np.ndarray]:
    tracker = DistortionTracker(64, (2, 3), SCALE)
    tracker.advance(before, now, motion)
    found = cell_features(labels, CLASSES, tracker, motion, now)
    assert found.shape == (len(SIGNALS) + CLASSES, -(-HEIGHT // CELL), -(-WIDTH // CELL))
    assert found.dtype == np.float32 and np.isfinite(found).all()
    return dict(zip([*SIGNALS, *range(CLASSES)], found, strict=True))


@pytest.fixture
def luma() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT // SCALE, WIDTH // SCALE), dtype=np.uint8)


def test_a_still_scene_has_age_and_texture_only(luma):
    found = look(ONE_CLASS, luma, luma, still())
    for name in ("distortion", "current", "motion", "occluded", "peak", "spread"):
        assert not found[name].any(), name
    assert (found["age"] == 1 / 8).all() and (found["texture"] > 0.5).all()


def test_a_change_shows_where_it_is(luma):
    now = luma.copy()
    now[16:24, 32:40] = 255 - now[16:24, 32:40]
    found = look(ONE_CLASS, luma, now, still())
    assert np.argwhere(found["distortion"] > 0).tolist() == [[2, 4]]
    assert found["peak"][2, 4] >= found["distortion"][2, 4]


def test_labels_are_counted_and_travel_with_the_motion(luma):
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[32:48, 48:64] = 3
    there = look(labels, luma, luma, still())
    assert there[3][2, 3] == 1 and there[0][2, 3] == 0 and there[3].sum() == 1
    assert there["border"][2, 3] > 0 and there["border"][0, 0] == 0
    moved = look(labels, luma, luma, still((CELL / SCALE, 0)))  # from one cell to the right
    assert moved[3][2, 2] == 1 and moved[3].sum() == 1
