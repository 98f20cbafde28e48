"""The reuse engine as a library: one video, frame by frame."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from support.frames import photo
from support.reuse_engines import NEVER, lost_by_labels, module_logits
from support.toy_networks import MEAN, STD, toy
from tilestream.engine import LoweringError, StreamingSegmenter
from tilestream.engine.motion.estimators import NoMotion
from tilestream.label_runs import LabelRuns
from tilestream.messages import EngineError, FrameStats

BIN, HEIGHT, WIDTH = 16, 50, 70
BINS = (4, 5)
UNITS = 3


@pytest.fixture(scope="module")
def network():
    return toy("split")


@pytest.fixture
def seg(network):
    return StreamingSegmenter(network, BIN, gate="budget", motion=NoMotion(), dense_above=NEVER)


def video(frames: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """A noisy scene in which one corner changes."""
    scene = photo(width, height, 1)
    result = []
    for index in range(frames):
        frame = scene.copy()
        frame[:20, :20] = photo(20, 20, 100 + index)
        result.append(frame)
    return result


def test_a_video_is_segmented_frame_by_frame(network):
    seg = StreamingSegmenter(network, bin_size=BIN, budget=0.3, gate="budget")
    total = UNITS * BINS[0] * BINS[1]
    for index, frame in enumerate(video(4)):
        labels, stats = seg(frame)
        assert labels.shape == (HEIGHT, WIDTH)
        assert labels.dtype == np.uint8
        assert isinstance(stats, FrameStats)
        assert stats.units_total == total
        assert stats.key_frame == (index == 0)
        assert stats.units_computed == total if stats.key_frame else stats.units_computed <= 0.3 * total
        assert stats.macs > 0
        assert stats.distortion >= 0
        assert {"motion", "gate", "backbone", "head"} >= set(stats.stage_seconds) - {"tables"}
    # the corner that changes is what was computed
    logits = module_logits(network, 2, frame)
    assert lost_by_labels(labels[:8, :8], logits[:, :8, :8]) < 1e-4


def test_labels_are_a_map_also_of_an_engine_that_gives_runs(seg, monkeypatch):
    frame = photo(WIDTH, HEIGHT, 1)
    step, expected = seg.engine.step, seg(frame)[0]

    def step_to_runs(work, forced):
        return [replace(outcome, labels=LabelRuns.of(outcome.labels)) for outcome in step(work, forced)]

    monkeypatch.setattr(seg.engine, "step", step_to_runs)
    assert np.array_equal(seg(frame, keep=False)[0], expected)


def test_a_frame_is_left_as_it_was(seg):
    frame = photo(WIDTH, HEIGHT, 1)
    before = frame.copy()
    labels, _ = seg(frame)
    labels[...] = 77
    again, _ = seg(frame, keep=False)
    assert np.array_equal(frame, before)
    assert (again != 77).all()


def test_frames_may_be_views_of_something_else(seg, network):
    """Such as pictures from OpenCV with their channels turned around."""
    view = photo(2 * WIDTH, HEIGHT, 1)[:, ::2, ::-1]
    expected, _ = StreamingSegmenter(network, bin_size=BIN)(np.ascontiguousarray(view))
    labels, _ = seg(view)
    assert np.array_equal(labels, expected)
    partial, stats = seg(view, keep=True)
    assert not stats.key_frame
    assert (partial != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("keep", "computed"),
    [
        (True, UNITS * 20),
        (False, 0),
        (np.True_, UNITS * 20),
        (np.ones(BINS, dtype=np.bool_), UNITS * 20),
        (np.arange(20).reshape(BINS) < 7, UNITS * 7),
        (np.arange(60).reshape(UNITS, *BINS) % 7 == 0, 9),
        (np.zeros((UNITS, *BINS), dtype=np.bool_), 0),
    ],
)
def test_what_is_computed_can_be_forced(seg, keep, computed):
    seg(photo(WIDTH, HEIGHT, 1))
    _, stats = seg(photo(WIDTH, HEIGHT, 2), keep=keep)
    assert not stats.key_frame
    assert stats.units_computed == computed
    assert stats.units_total == UNITS * 20


def test_keeping_everything_is_the_module_and_nothing_the_frame_before(seg, network):
    frames = [photo(WIDTH, HEIGHT, seed) for seed in range(3)]
    first, _ = seg(frames[0])
    nothing, _ = seg(frames[1], keep=False)
    assert np.array_equal(first, nothing)
    everything, _ = seg(frames[2], keep=True)
    assert lost_by_labels(everything, module_logits(network, 2, frames[2])) < 1e-5


WRONG = [
    np.ones((5, 4), dtype=np.bool_),
    np.ones((1, 5), dtype=np.bool_),
    np.ones(5, dtype=np.bool_),
    np.ones(BINS, dtype=np.uint8),
    np.ones((UNITS + 1, *BINS), dtype=np.bool_),
    np.ones((1, *BINS), dtype=np.bool_),
    np.ones((1, UNITS, *BINS), dtype=np.bool_),
    0.5,
]


@pytest.mark.parametrize("keep", WRONG, ids=lambda keep: str(np.shape(keep)))
def test_a_mask_of_another_shape_is_refused_and_the_video_goes_on(seg, keep):
    frame = photo(WIDTH, HEIGHT, 1)
    with pytest.raises(ValueError, match=r"keep: .*bool \[4, 5\].*bool \[3, 4, 5\]"):
        seg(frame, keep=keep)
    first, _ = seg(frame)
    with pytest.raises(ValueError, match="keep"):
        seg(photo(WIDTH, HEIGHT, 2), keep=keep)
    again, stats = seg(frame, keep=False)
    assert np.array_equal(first, again)
    assert not stats.key_frame
    assert stats.distortion == 0.0


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH, 4), np.uint8),
        np.zeros((3, HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.zeros((0, WIDTH, 3), np.uint8),
    ],
)
def test_a_frame_of_another_kind_is_refused(seg, frame):
    with pytest.raises(ValueError, match=r"frame: .* has to be uint8 \[H, W, 3\]"):
        seg(frame)


def test_reset_forgets_the_video(seg):
    frame = photo(WIDTH, HEIGHT, 1)
    seg.reset()
    assert seg(frame)[1].key_frame
    assert not seg(frame, keep=True)[1].key_frame
    seg.reset()
    seg.reset()
    assert seg.engine.features.store.usage().in_use == 0
    assert seg(frame, keep=True)[1].key_frame


def test_another_size_takes_a_key_frame(seg, network):
    for width, height in ((70, 50), (33, 50), (33, 18), (70, 50)):
        for seed, key in ((1, True), (2, False)):
            frame = photo(width, height, seed)
            labels, stats = seg(frame, keep=True)
            assert stats.key_frame is key
            assert labels.shape == (height, width)
            assert lost_by_labels(labels, module_logits(network, 2, frame)) < 1e-5


def test_a_key_frame_can_be_asked_for(seg):
    frame = photo(WIDTH, HEIGHT, 1)
    seg(frame)
    answer = seg.outcome(frame, keep=False, whole=True, confidence=True)
    assert answer.stats.key_frame
    assert answer.confidence.shape == (HEIGHT, WIDTH)
    assert answer.bins.units_computed.shape == BINS


def test_mean_and_deviation_are_the_modules_unless_given(network):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x)

    frame = photo(WIDTH, HEIGHT, 1)
    expected, _ = StreamingSegmenter(network, bin_size=BIN)(frame)
    bare = Bare().eval()
    for missing, given in (("mean", {}), ("mean", {"std": STD}), ("std", {"mean": MEAN})):
        with pytest.raises(ValueError, match=f"{missing}: the module has none"):
            StreamingSegmenter(bare, bin_size=BIN, **given)
    for mean in (MEAN, list(MEAN), np.array(MEAN), torch.tensor(MEAN).view(1, 3, 1, 1)):
        assert np.array_equal(StreamingSegmenter(bare, bin_size=BIN, mean=mean, std=STD)(frame)[0], expected)
    other, _ = StreamingSegmenter(network, bin_size=BIN, mean=(0.9, 0.1, 0.5))(frame)
    assert not np.array_equal(other, expected)
    with pytest.raises(ValueError, match="three numbers"):
        StreamingSegmenter(network, bin_size=BIN, mean=(0.5,))


@pytest.mark.parametrize("budget", [0.0, -1.0, 1.5])
def test_a_budget_that_is_no_share_is_refused(network, budget):
    with pytest.raises(ValueError, match="budget"):
        StreamingSegmenter(network, bin_size=BIN, budget=budget)


def test_what_cannot_be_had_is_refused_when_it_is_asked_for(network):
    with pytest.raises(LoweringError):
        StreamingSegmenter(nn.Conv2d(3, 5, 1), bin_size=BIN, mean=MEAN, std=STD)
    with pytest.raises(EngineError):
        StreamingSegmenter(network, bin_size=BIN, precision="fp32", device="tpu")


def test_two_videos_have_nothing_to_do_with_each_other(network):
    one, other = (StreamingSegmenter(network, bin_size=BIN, motion=NoMotion()) for _ in range(2))
    first, _ = one(photo(WIDTH, HEIGHT, 1))
    other(photo(WIDTH, HEIGHT, 2))
    assert np.array_equal(one(photo(WIDTH, HEIGHT, 3), keep=False)[0], first)


def test_what_is_prepared_for_sizes_is_bounded(network):
    """A camera may change its size with every frame."""
    seg = StreamingSegmenter(network, bin_size=BIN)
    for width in range(17, 97):
        labels, stats = seg(photo(width, 18, 1))
        assert labels.shape == (18, width) and stats.whole
    prepared = (seg.engine._observer.tracker, seg.engine.dense.normalize._line)
    assert all(0 < each.cache_info().currsize <= 64 for each in prepared)
