"""Scores of a whole frame take over from those of the one before only what they know of the same places."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import Ask, Shift, make_engine, run, step
from tilestream.engine.gates.rules import EveryKGate
from tilestream.engine.memory.scores import FUSED_DIFFERENCE, MOST_AVERAGED, SmoothedScores, weight_of
from tilestream.engine.motion.estimators import DisMotion

HEIGHT, WIDTH, STRIDE, SCALE = 48, 64, 4, 2
ROWS, COLUMNS = HEIGHT // STRIDE, WIDTH // STRIDE
LUMA = torch.full((HEIGHT // SCALE, WIDTH // SCALE), 100, dtype=torch.uint8)


def scores(seed: int) -> torch.Tensor:
    return torch.randn(5, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed)) * 4


def level(values: torch.Tensor) -> torch.Tensor:
    return values - values.max(dim=0).values


def kept_scores(seed: int, luma: torch.Tensor = LUMA) -> SmoothedScores:
    return SmoothedScores.of(scores(seed), luma, SCALE, STRIDE)


def shift(x: float, y: float) -> torch.Tensor:
    """Of everything, in pixels of the scores."""
    return (torch.tensor([x, y]) * STRIDE / SCALE).expand(*LUMA.shape, 2).float().contiguous()


def fused(earlier: SmoothedScores, now: torch.Tensor, luma=LUMA, moved=None, weight=0.5) -> torch.Tensor:
    return earlier.smooth(now, luma, moved, (HEIGHT, WIDTH), weight)


@given(st.integers(0, 99), st.integers(1, MOST_AVERAGED), st.floats(0, 0.5))
def test_what_stands_still_is_the_mean_of_all_frames(seed, count, weight):
    seen = [scores(seed + 100 * number) for number in range(count + 1)]
    mean = seen[0]
    for number, each in enumerate(seen[1:], start=1):
        mean = fused(SmoothedScores.of(mean, LUMA, SCALE, STRIDE), each, weight=weight_of(number, weight))
    # levelling moves all classes of a pixel alike
    expected = torch.stack([level(each) for each in seen]).mean(dim=0)
    assert torch.allclose(level(mean), level(expected), atol=1e-4)


@given(st.integers(0, 99), st.floats(0, 0.9))
def test_what_stands_still_is_the_mean_of_both(seed, weight):
    assert weight_of(0, weight) == weight and weight_of(1, weight) == max(weight, 0.5)
    found = fused(kept_scores(seed), scores(seed + 100), weight=weight)
    expected = (1 - weight) * level(scores(seed + 100)) + weight * level(scores(seed))
    assert torch.allclose(found, expected, atol=1e-5)


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_earlier_scores_follow_the_motion_and_do_not_come_from_outside(x, y):
    found = fused(kept_scores(1), scores(2), moved=shift(x, y))
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    from_y, from_x = rows + y, columns + x
    inside = (from_y >= 0) & (from_y < ROWS) & (from_x >= 0) & (from_x < COLUMNS)
    before = level(scores(1))[:, np.clip(from_y, 0, ROWS - 1), np.clip(from_x, 0, COLUMNS - 1)]
    now = level(scores(2))
    expected = torch.where(torch.from_numpy(inside), 0.5 * (now + before), now)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("difference", "share"), [(0, 1.0), (4, 0.75), (FUSED_DIFFERENCE, 0.0), (90, 0.0)])
def test_what_looks_different_counts_less(difference, share):
    changed = LUMA.clone()
    changed[:, LUMA.shape[1] // 2 :] += int(difference)
    found, now = fused(kept_scores(1), scores(2), changed), level(scores(2))
    edge = COLUMNS // 2
    assert torch.allclose(found[..., : edge - 1], (now + 0.5 * (level(scores(1)) - now))[..., : edge - 1])
    expected = now + 0.5 * share * (level(scores(1)) - now)
    assert torch.allclose(found[..., edge + 1 :], expected[..., edge + 1 :], atol=1e-5)


def frames(seed: int, count: int = 6) -> list[np.ndarray]:
    """A pale scene with fresh noise in every frame."""
    scene = photo(90, 70, seed) // 8 + np.uint8(90)
    random = np.random.default_rng(seed)
    return [scene + random.integers(0, 9, scene.shape, dtype=np.uint8) for _ in range(count)]


def engine(weight: float):
    return make_engine("split", motion=Shift(0, 0), gate=EveryKGate(1), fusion=weight)


def flicker(weight: float, seed: int) -> float:
    """Share of the labels that change from frame to frame."""
    tiled = engine(weight)
    labels = [step(tiled, "camera", image).labels for image in frames(seed)]
    return float(np.mean([a != b for a, b in pairwise(labels)]))


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_a_noisy_scene_are_smoother(seed):
    assert flicker(0.5, seed) < 0.9 * flicker(0.0, seed)


def test_frames_that_are_whole_for_another_reason_are_the_networks_own():
    """The first of a session, one that the client wants anew, a scene cut, and all at a weight of 0."""
    first, second, *_ = frames(0)
    other = np.asarray(255 - photo(90, 70, 9), dtype=np.uint8)
    plain = {name: step(engine(0.0), "camera", image).labels for name, image in (("2", second), ("9", other))}
    tiled = engine(0.5)
    assert np.array_equal(step(tiled, "camera", second).labels, plain["2"])
    step(tiled, "camera", first)
    assert np.array_equal(step(tiled, "camera", second, whole=True).labels, plain["2"])
    assert not np.array_equal(step(tiled, "camera", first).labels, plain["2"])
    assert np.array_equal(step(tiled, "camera", other).labels, plain["9"])
    step(tiled, "camera", first)
    assert np.array_equal(step(tiled, "camera", second, keep=True).labels, plain["2"])


def test_averaged_frames_are_counted_while_nothing_moves():
    still = make_engine("split", motion=DisMotion(), gate=EveryKGate(2), fusion=0.35)
    scene = photo(90, 70, 0)
    seen = []
    for _ in range(7):
        step(still, "camera", scene)
        seen.append(still.session("camera").averaged)
    assert seen == [1, 1, 2, 2, 3, 3, 4]
    for _ in range(2 * MOST_AVERAGED):
        step(still, "camera", scene)
    averaged = still.session("camera").averaged
    assert averaged == MOST_AVERAGED  # a scene is forgotten in the end
    assert weight_of(averaged, 0.35) == MOST_AVERAGED / (MOST_AVERAGED + 1)


def test_what_creeps_is_not_averaged_with_what_it_was():
    """Every frame is as good as the one before, and none of the last ones as the first."""
    creeping = make_engine("split", motion=DisMotion(), gate=EveryKGate(1), fusion=0.35)
    scene, averaged = photo(90, 70, 0) // 2, []
    for steps in range(0, 40, 2):  # luma
        step(creeping, "camera", scene + np.uint8(steps))
        averaged.append(creeping.session("camera").averaged)
    assert averaged == [1, 2] * 10


@pytest.mark.parametrize("right", [0, 1])  # 0: no motion is found, but the frames differ
def test_only_what_stands_still_is_averaged(right):
    moving = make_engine("split", motion=Shift(right, 0), gate=EveryKGate(2), fusion=0.35)
    for number, image in enumerate(frames(0)):
        step(moving, "camera", image)
        assert moving.session("camera").averaged == (number % 2 == 0)


def test_sessions_are_fused_with_their_own_past_only():
    alone, among = engine(0.5), engine(0.5)
    for images in zip(frames(0), frames(1), frames(2), strict=True):
        expected = step(alone, "1", images[1])
        requests = [Ask(str(index), image) for index, image in enumerate(images)]
        assert np.array_equal(run(among, requests)[1].labels, expected.labels)


def test_evicted_sessions_begin_without_a_past():
    tiled = engine(0.5)
    first, second, *_ = frames(0)
    step(tiled, "camera", first)
    tiled.evict("camera")
    answer = step(tiled, "camera", second)
    assert np.array_equal(answer.labels, step(engine(0.0), "camera", second).labels)
