"""What the learned gate looks at follows from the frame, the motion and the labels shown before."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.batches import batch, estimate, joined, motion_of, only
from support.textures import moved_pair, noisy
from tilestream.engine.gates.cells import CELL, SIGNALS, cell_features
from tilestream.engine.motion.distortion import DistortionTracker
from tilestream.engine.motion.estimators import DisMotion
from tilestream.engine.motion.flow import Motion

HEIGHT, WIDTH, CLASSES, SCALE = 100, 150, 4, 2  # no multiples of a cell
SHAPE = (HEIGHT // SCALE, WIDTH // SCALE)
ONE_CLASS = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)


def shifted(flow: tuple[float, float] = (0, 0)) -> Motion:
    return motion_of(np.broadcast_to(np.float32(flow), (*SHAPE, 2)).copy(), scale=SCALE)


def look(labels: np.ndarray, before: np.ndarray, now: np.ndarray, motion: Motion) -> dict[str, np.ndarray]:
    tracker = DistortionTracker(64, (2, 3), SCALE, SHAPE)
    fine = tracker.advance([tracker.start()], batch(before), batch(now), motion).fine
    found = only(cell_features(batch(labels), CLASSES, fine, tracker.cell, motion, batch(now)))
    assert found.shape == (len(SIGNALS) + CLASSES, -(-HEIGHT // CELL), -(-WIDTH // CELL))
    assert found.dtype == np.float32 and np.isfinite(found).all()
    return dict(zip([*SIGNALS, *range(CLASSES)], found, strict=True))


@pytest.fixture
def luma() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def test_a_still_scene_has_age_and_texture_only(luma):
    found = look(ONE_CLASS, luma, luma, shifted())
    for name in ("distortion", "current", "motion", "occluded", "peak", "spread"):
        assert not found[name].any(), name
    assert (found["age"] == 1 / 8).all() and (found["texture"] > 0.5).all()


def test_a_change_shows_where_it_is(luma):
    now = luma.copy()
    now[16:24, 32:40] = 255 - now[16:24, 32:40]
    found = look(ONE_CLASS, luma, now, shifted())
    assert np.argwhere(found["distortion"] > 0).tolist() == [[2, 4]]
    assert found["peak"][2, 4] >= found["distortion"][2, 4]


def test_labels_are_counted_and_travel_with_the_motion(luma):
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[32:48, 48:64] = 3
    there = look(labels, luma, luma, shifted())
    assert there[3][2, 3] == 1 and there[0][2, 3] == 0 and there[3].sum() == 1
    assert there["border"][2, 3] > 0 and there["border"][0, 0] == 0
    moved = look(labels, luma, luma, shifted((CELL / SCALE, 0)))  # from one cell to the right
    assert moved[3][2, 2] == 1 and moved[3].sum() == 1


def test_labels_of_no_class_and_a_motion_that_differs_within_a_cell_are_seen(luma):
    labels = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    labels[:CELL, :CELL] = 1
    motion = shifted()
    motion.flow[0, 8:16, 8:12, 0] = 4.0  # one half of cell (1, 1), so that it deviates by 2, 4 in the image
    found = look(labels, luma, luma, motion)
    assert sum(found[label] for label in range(CLASSES)).sum() == found[1][0, 0] == 1
    assert np.argwhere(found["spread"]).tolist() == [[1, 1]] and found["spread"][1, 1] == pytest.approx(1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["moved", "still", "cut"]), st.integers(0, 20)), min_size=1, max_size=5
    )
)
@settings(max_examples=30)
def test_a_frame_s_cells_do_not_depend_on_who_comes_with_it(kinds):
    pairs = []
    for kind, seed in kinds:
        before, now = moved_pair(seed % 5, 2, *SHAPE, seed)
        others = {"moved": now, "still": noisy(before, np.random.default_rng(seed)), "cut": 255 - now}
        pairs.append((before, others[kind]))
    labels = [
        np.random.default_rng(seed).integers(0, 6, (HEIGHT, WIDTH), dtype=np.uint8) for _, seed in kinds
    ]
    motions = [estimate(DisMotion(), *pair, SCALE) for pair in pairs]
    motion, luma = joined(motions), batch(*(now for _, now in pairs))
    tracker = DistortionTracker(64, (2, 3), SCALE, SHAPE)
    states = [tracker.start() for _ in pairs]
    fine = tracker.advance(states, batch(*(before for before, _ in pairs)), luma, motion).fine
    step = tracker.cell
    found = cell_features(batch(*labels), CLASSES, fine, step, motion, luma)
    for index in range(len(pairs)):
        one = slice(index, index + 1)
        alone = cell_features([batch(*labels)[index]], CLASSES, fine[one], step, motions[index], luma[one])
        assert torch.equal(found[one], alone)
