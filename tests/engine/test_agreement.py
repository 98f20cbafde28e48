"""Reuse agreement: what recomputed bins say of the labels that were moved there."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import Ask, Shift, make_engine, network, run, step
from tilestream.engine.gates.agreement import compare
from tilestream.engine.gates.rules import EveryKGate
from tilestream.engine.motion.estimators import DisMotion, NoMotion
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.messages import Outcome

WIDTH, HEIGHT, BIN = 70, 50, 16
BINS = (4, 5)
SOME = np.arange(20).reshape(BINS) % 3 == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.floats(0, 1))
def test_only_pixels_of_the_frame_and_of_compared_bins_count(height, width, seed, share):
    random = np.random.default_rng(seed)
    moved, computed = random.integers(0, 3, (2, height, width), dtype=np.uint8)
    bins = -(-height // 8), -(-width // 8)
    where = random.random(bins) < share
    found = compare(moved, computed, where, np.full(bins, 3, np.float32), 8)
    if not where.any():
        assert found is None
        return
    inside = where.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    assert found.compared == inside.sum() and found.age == pytest.approx(3)
    assert found.share == pytest.approx((moved == computed)[inside].mean())
    assert (found.changed <= found.pixels).all() and not found.pixels[~where].any()


def test_the_age_is_that_of_the_compared_pixels():
    labels, age = np.zeros((16, 12), np.uint8), np.array([[1, 5], [9, 2]], np.float32)
    where = np.array([[True, True], [False, False]])
    assert compare(labels, labels, where, age, 8).age == pytest.approx((64 * 1 + 32 * 5) / 96)


@pytest.mark.parametrize("motion", [NoMotion(), DisMotion()], ids=["no motion", "optical flow"])
@pytest.mark.parametrize("keep", [True, SOME], ids=["all", "some"])
def test_a_picture_that_stays_agrees_with_itself(motion, keep):
    engine, image = make_engine("split", motion=motion), photo(WIDTH, HEIGHT, 1)
    step(engine, "camera", image)
    for _ in range(3):
        stats = step(engine, "camera", image, keep=keep).stats
        assert stats.agreement == 1.0


def every_third(image: np.ndarray, later: list[np.ndarray]) -> list[Outcome]:
    segment = StreamingSegmenter(network("split"), BIN, 0.33, gate=EveryKGate(3), motion=NoMotion())
    return [segment.outcome(frame) for frame in (image, *later)]


def faded(image: np.ndarray) -> np.ndarray:
    """Changed everywhere, and not as much as a cut would."""
    return np.asarray(image * 0.85 + 0.15 * photo(WIDTH, HEIGHT, 9), np.uint8)


def test_key_frames_tell_after_frames_that_were_reused():
    image = photo(WIDTH, HEIGHT, 1)
    answers = every_third(image, [image] * 6)
    assert [answer.stats.agreement for answer in answers] == [None, None, None, 1.0, None, None, 1.0]
    assert answers[3].stats.agreement_pixels == WIDTH * HEIGHT
    assert answers[3].stats.agreement_age == pytest.approx(3)


def test_key_frames_tell_what_changed():
    image = photo(WIDTH, HEIGHT, 1)
    answers = every_third(image, [image, image, faded(image)])
    same = (answers[2].labels == answers[3].labels).mean()
    assert 0 < same < 1
    assert answers[3].stats.key_frame and answers[3].stats.agreement == pytest.approx(same)


def test_a_picture_that_changed_agrees_less_where_it_was_computed():
    engine, image = make_engine("split"), photo(WIDTH, HEIGHT, 1)
    before = step(engine, "camera", image).labels
    answer = step(engine, "camera", photo(WIDTH, HEIGHT, 2), keep=SOME)
    inside = SOME.repeat(BIN, axis=0).repeat(BIN, axis=1)[:HEIGHT, :WIDTH]
    assert answer.stats.agreement == pytest.approx((before == answer.labels)[inside].mean())
    assert answer.stats.agreement < 1 and answer.stats.agreement_pixels == inside.sum()


def test_labels_are_compared_where_the_motion_took_them():
    """A camera that turns by whole tiles: what moved agrees, what did not move would not."""
    scene = photo(WIDTH + 64, HEIGHT, 1)
    frames = [np.ascontiguousarray(scene[:, left : left + WIDTH]) for left in (0, BIN)]
    inner = np.zeros(BINS, np.bool_)
    inner[1:-1, 1:2] = True
    found = []
    for motion in (Shift(BIN, 0), NoMotion()):
        engine = make_engine("split", motion=motion)
        step(engine, "camera", frames[0])
        found.append(step(engine, "camera", frames[1], keep=inner).stats.agreement)
    assert found[0] == 1.0 > found[1]


def test_nothing_to_tell():
    engine, image = make_engine("split"), photo(WIDTH, HEIGHT, 1)
    assert step(engine, "camera", image).stats.agreement is None  # the first frame
    assert step(engine, "camera", image, keep=False).stats.agreement is None
    assert step(engine, "camera", image, whole=True).stats.agreement is None  # without motion
    engine.evict("camera")
    assert step(engine, "camera", image, keep=SOME).stats.agreement is None
    assert step(engine, "camera", image, retain=False).stats.agreement is None


def test_a_cut_and_a_key_frame_after_another_tell_nothing():
    segment = StreamingSegmenter(network("split"), BIN, 1.0, gate=EveryKGate(), motion=DisMotion())
    image = photo(WIDTH, HEIGHT, 1)
    assert [segment.outcome(image).stats.agreement for _ in range(3)] == [None] * 3
    slow = StreamingSegmenter(network("split"), BIN, 0.1, gate=EveryKGate(9), motion=DisMotion())
    answers = [slow.outcome(frame) for frame in (image, image, image, 255 - photo(WIDTH, HEIGHT, 2))]
    assert answers[-1].stats.key_frame and answers[-1].stats.agreement is None


@pytest.mark.parametrize("confidence", [False, True])
def test_sessions_that_share_steps_and_confidence_change_nothing(confidence):
    clips = {
        name: [faded(photo(WIDTH, HEIGHT, seed + i)) for i in range(4)]
        for name, seed in (("a", 1), ("b", 20))
    }
    alone = {}
    for name, frames in clips.items():
        engine = make_engine("split")
        alone[name] = [step(engine, name, frame, keep=SOME).stats for frame in frames]
    engine = make_engine("split")
    for index in range(4):
        answers = run(
            engine,
            [Ask(name, frames[index], keep=SOME, confidence=confidence) for name, frames in clips.items()],
        )
        for name, answer in zip(clips, answers, strict=True):
            expected = dataclasses.replace(alone[name][index], stage_seconds={})
            assert dataclasses.replace(answer.stats, stage_seconds={}) == expected
    assert all(0 < stats.agreement < 1 for stats in alone["a"][1:])


def test_a_frame_without_room_for_its_bins_still_tells():
    """It is computed in full then: its labels are compared as those of any key frame."""
    engine, image = make_engine("split", store_bytes=450 << 10), photo(WIDTH, HEIGHT, 1)
    step(engine, "camera", image)
    answers = [step(engine, "camera", image, keep=keep) for keep in (False, True)]
    assert [answer.stats.key_frame for answer in answers] == [False, True]
    assert answers[1].stats.agreement == 1.0


def test_dense_above_makes_a_key_frame_that_tells():
    engine, image = make_engine("split", dense_above=0.5), photo(WIDTH, HEIGHT, 1)
    step(engine, "camera", image)
    step(engine, "camera", image, keep=False)
    stats = step(engine, "camera", faded(image), keep=True).stats
    assert stats.key_frame and stats.agreement < 1
