"""Frames of which nothing is computed: what is deferred or left out for them changes no result."""

import cv2
import numpy as np
import pytest
import torch

from support.frames import photo
from support.reuse_engines import Shift, kept_maps, make_engine, network, same, step
from tilestream.engine.gates.gate import Gate
from tilestream.engine.gates.learned import RiskGate
from tilestream.engine.gates.rules import BudgetGate, EveryKGate
from tilestream.engine.model_engine import ModelEngine
from tilestream.engine.motion.estimators import DisMotion
from tilestream.engine.motion.flow import Motion
from tilestream.engine.motion.luma import thumbnail_scale, thumbnails
from tilestream.engine.streaming import StreamingSegmenter


class EveryKWithFeatures(EveryKGate):
    """The same decisions, features kept all the same."""

    reuses_features = True


class Turning:
    """Motion that differs from place to place, by fractions of a feature."""

    def estimate(self, previous, current, expected, scale) -> Motion:
        flow = torch.stack([self._flow(now) for now in current])
        return Motion(flow, torch.zeros(current.shape, dtype=torch.bool), scale)

    @staticmethod
    def _flow(now) -> torch.Tensor:
        random = np.random.default_rng(int(now.sum()))
        coarse = random.normal(0, 2, (3, 4, 2)).astype(np.float32)
        return torch.from_numpy(cv2.resize(coarse, tuple(now.shape)[::-1], interpolation=cv2.INTER_CUBIC))


def calm(seed: int) -> np.ndarray:
    """The same scene every time, so pale that no motion makes a cut of it."""
    noise = np.random.default_rng(seed).integers(0, 9, (70, 90, 3), dtype=np.uint8)
    return photo(90, 70, 0) // 8 + noise + np.uint8(90)


def with_gate(gate: Gate) -> ModelEngine:
    return make_engine("split", motion=Turning(), gate=gate, fusion=0.0)


# -- references that wait --


@pytest.mark.parametrize("shift", [(16, 0), (-16, 32)])
def test_features_moved_once_are_where_they_would_be_frame_by_frame(shift):
    deferred, asked = (make_engine("pooled", motion=Shift(*shift)) for _ in range(2))
    for seed in range(4):
        for tiled in (deferred, asked):
            step(tiled, "camera", photo(128, 112, seed), keep=False)
        kept_maps(asked, "camera")  # follows the motion
    assert same(kept_maps(deferred, "camera"), kept_maps(asked, "camera"))
    keep = np.zeros((7, 8), dtype=np.bool_)
    keep[2:4, 1:5] = True
    found, expected = (step(tiled, "camera", photo(128, 112, 9), keep=keep) for tiled in (deferred, asked))
    assert np.array_equal(found.labels, expected.labels)
    assert same(kept_maps(deferred, "camera"), kept_maps(asked, "camera"))


def test_motion_below_a_feature_adds_up_while_references_wait():
    """Deep features are 4 pixels wide: four frames of one pixel are one feature, exactly."""
    slow, fast = make_engine("split", motion=Shift(1, 0)), make_engine("split", motion=Shift(4, 0))
    for tiled, frames in ((slow, 4), (fast, 1)):
        step(tiled, "camera", photo(96, 64, 0))
        for seed in range(frames):
            step(tiled, "camera", photo(96, 64, 1 + seed), keep=False)
    # what comes in from the right is cut off after every pixel, or once
    found, expected = (
        {key: value[..., :-8] for key, value in kept_maps(e, "camera").items()} for e in (slow, fast)
    )
    assert same(found, expected)


def test_a_key_frame_forgets_motion_that_was_deferred():
    tiled, fresh = (make_engine("pooled", motion=Shift(16, 0)) for _ in range(2))
    step(tiled, "camera", photo(96, 64, 0))
    step(tiled, "camera", photo(96, 64, 1), keep=False)
    for each in (tiled, fresh):
        step(each, "camera", photo(96, 64, 2), whole=True)
    assert same(kept_maps(tiled, "camera"), kept_maps(fresh, "camera"))


# -- gates that reuse labels only --


def test_labels_are_the_same_without_features():
    with_features, without = with_gate(EveryKWithFeatures(4)), with_gate(EveryKGate(4))
    for seed in range(10):
        answers = [
            step(tiled, "camera", calm(seed), budget=0.25, confidence=True)
            for tiled in (with_features, without)
        ]
        assert np.array_equal(answers[0].labels, answers[1].labels)
        assert np.array_equal(answers[0].confidence, answers[1].confidence)
        assert answers[0].stats.key_frame is answers[1].stats.key_frame is (seed % 4 == 0)
        assert answers[0].stats.macs == answers[1].stats.macs
    assert with_features.features.store.usage().in_use > 0
    assert without.features is None


def test_without_features_some_bins_mean_all():
    tiled = with_gate(EveryKGate(100))
    keep = np.zeros((5, 6), dtype=np.bool_)
    step(tiled, "camera", calm(0))
    assert not step(tiled, "camera", calm(1), keep=keep).stats.key_frame
    keep[1, 1] = True
    answer = step(tiled, "camera", calm(2), keep=keep)
    assert answer.stats.key_frame and answer.stats.block_drop_rate == 0.0
    assert np.array_equal(answer.labels, step(tiled, "another", calm(2)).labels)


@pytest.mark.parametrize("end", ["evict", "release", "unretained"])
def test_without_features_a_session_that_lost_its_labels_begins_anew(end):
    tiled = with_gate(EveryKGate(100))
    step(tiled, "camera", calm(0))
    step(tiled, "another", calm(0))
    if end == "unretained":
        step(tiled, "camera", calm(1), retain=False)
    else:
        getattr(tiled, end)("camera")
    assert step(tiled, "camera", calm(1)).stats.key_frame
    assert not step(tiled, "camera", calm(2)).stats.key_frame
    assert not step(tiled, "another", calm(2)).stats.key_frame


def test_gates_say_whether_they_reuse_features():
    assert not EveryKGate().reuses_features and not RiskGate().reuses_features
    assert BudgetGate().reuses_features and RiskGate(spread=True).reuses_features


# -- still scenes --


def scene_at(x: float, width: int = 160, height: int = 128) -> np.ndarray:
    """A scene with detail, seen from ``x`` pixels further to the right."""
    wide = cv2.GaussianBlur(photo(width + 40, height, 3), (0, 0), 2)
    place = np.float32([[1, 0, -x], [0, 1, 0]])
    return np.ascontiguousarray(cv2.warpAffine(wide, place, (width + 40, height))[:, :width])


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def segmenter(gate=None) -> StreamingSegmenter:
    return StreamingSegmenter(network("split"), 16, gate=gate or EveryKGate(1000), motion=DisMotion())


@torch.inference_mode()
def replace_labels(segment: StreamingSegmenter, labels: np.ndarray) -> None:
    segment.state.labels.replace(torch.from_numpy(labels))


def test_noise_does_not_move_labels():
    segment = segmenter()
    first, _ = segment(noisy(scene_at(0), 0))
    for seed in range(1, 6):
        labels, stats = segment(noisy(scene_at(0), seed))
        assert np.array_equal(labels, first) and not stats.key_frame
    answer = segment.outcome(noisy(scene_at(0), 7))
    assert (answer.bins.age == 6).all() and not answer.bins.distortion.any()


def test_what_moves_too_slowly_to_be_seen_adds_up():
    """A sixteenth of a pixel per frame is no more than noise; after 96 frames it is 6 pixels."""
    segment = segmenter()
    segment(scene_at(0))
    columns = np.tile(np.arange(160, dtype=np.uint8), (128, 1))
    replace_labels(segment, columns)  # labels that tell where they were
    before, moves = columns, 0
    for index in range(1, 97):
        labels, _ = segment(scene_at(index / 16))
        moves, before = moves + (not np.array_equal(labels, before)), labels
    assert moves < 24
    found = (labels.astype(int) - columns)[16:-16, 16:-24]
    assert np.abs(found - 6).mean() < 0.5


@pytest.mark.parametrize("k", [2, 3])
def test_slow_motion_before_a_key_frame_does_not_move_what_it_computed(k):
    """Frames that pass as still, one of them computed: what comes after it moves from there on."""
    segment = segmenter(EveryKGate(k))
    speed, columns = 0.15, np.tile(np.arange(160, dtype=np.uint8), (128, 1))
    since = 0
    for index in range(60):
        labels, stats = segment(scene_at(index * speed))
        if stats.key_frame:
            replace_labels(segment, columns)
            since = index
            image = torch.from_numpy(scene_at(index * speed))
            assert torch.equal(segment.state.luma, thumbnails([image], thumbnail_scale(128, 160))[0])
        else:
            found = (labels.astype(int) - columns)[16:-16, 16:-24].mean()
            assert abs(found - speed * (index - since)) < 0.6


def test_features_are_reused_beside_a_still_frame():
    quiet, plain = (make_engine("split", motion=DisMotion()) for _ in range(2))
    keep = np.zeros((8, 10), dtype=np.bool_)
    keep[3, 4:8] = True
    for each in (quiet, plain):
        step(each, "camera", scene_at(0))
    for seed in range(3):
        step(quiet, "camera", noisy(scene_at(0), seed), keep=False)
    labels = [step(each, "camera", scene_at(0), keep=keep).labels for each in (quiet, plain)]
    assert np.array_equal(labels[0], labels[1])
