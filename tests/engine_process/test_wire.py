"""What one side packs is what the other side unpacks, whatever lies in the arena and what in the message."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.plans import frame_of
from tilestream.engine_process.arena import Arena
from tilestream.engine_process.wire import pack, unpack
from tilestream.label_runs import LabelRuns
from tilestream.messages import DropReason, Failure, Frame, FrameStats, Grant, Outcome, Picture


@pytest.fixture(scope="module")
def arenas():
    ours = Arena()
    theirs = Arena(os.dup(ours.file))
    yield ours, theirs
    ours.close()
    theirs.close()


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


sizes = st.tuples(st.integers(0, 90), st.integers(1, 130), st.integers(0, 2**32 - 1))


@given(st.lists(sizes, max_size=5), st.booleans())
def test_frames_arrive_as_they_were_sent(arenas, wanted, copy):
    ours, theirs = arenas
    sent = tuple(
        (frame_of(f"s{seed}", seed, pixels(*size, seed), submitted=1.5, whole=True), Grant(0.25, 0.0))
        for *size, seed in wanted
    )
    for (frame, grant), (expected, limits) in zip(
        unpack(pack(sent, ours), theirs, copy=copy), sent, strict=True
    ):
        assert (frame.session_id, frame.frame_id) == (expected.session_id, expected.frame_id)
        assert (frame.submitted, frame.whole, grant) == (1.5, True, limits)
        np.testing.assert_array_equal(frame.picture.pixels, expected.picture.pixels)
        assert frame.picture.compute == expected.picture.compute


@pytest.mark.parametrize("size", [10, 4095, 4096, 200_000])
def test_encoded_pictures_arrive_as_they_were_sent(arenas, size):
    ours, theirs = arenas
    data = os.urandom(size)
    sent = Frame("s", 1, Picture(640, 480, (320, 240), data=data))
    parcel = pack(sent, ours)
    found = unpack(parcel, theirs, copy=False).picture
    assert (found.width, found.height, found.compute, found.pixels) == (640, 480, (320, 240), None)
    assert bytes(found.data) == data
    assert len(parcel.message) < 5000, "what is large is not in the message"


def test_an_outcome_lies_behind_the_frames_and_is_the_callers_own(arenas):
    ours, theirs = arenas
    request = pack(frame_of("s", 1, pixels(100, 100)), ours)
    seen = unpack(request, theirs, copy=False).picture.pixels
    before = seen.copy()
    labels = np.asfortranarray(pixels(100, 100, 1)[..., 0])
    sent = Outcome("s", 1, labels, FrameStats(True, 8, 8, stage_seconds={"head": 0.1}), labels[::-1])
    outcome = unpack(pack(sent, theirs, request.end), ours, copy=True)
    np.testing.assert_array_equal(seen, before)
    pack(frame_of("s", 2, pixels(200, 200, 2)), ours)
    np.testing.assert_array_equal(outcome.labels, labels)
    np.testing.assert_array_equal(outcome.confidence, labels[::-1])
    assert outcome.labels.flags.writeable and outcome.stats == sent.stats


@pytest.mark.parametrize("size", [(1, 1), (40, 60), (300, 400)])
def test_runs_of_labels_arrive_as_runs(arenas, size):
    ours, theirs = arenas
    labels = pixels(*size, 3)[..., 0]
    parcel = pack(Outcome("s", 1, LabelRuns.of(labels)), theirs)
    assert len(parcel.message) < 9000, "what is large is not in the message"
    found = unpack(parcel, ours, copy=True).labels
    pack(frame_of("s", 2, pixels(*size, 4)), theirs)
    assert isinstance(found, LabelRuns) and found.starts.dtype == np.int32
    np.testing.assert_array_equal(found.to_map(), labels)


def test_a_part_of_a_step_s_runs_is_sent_without_the_rest(arenas):
    ours, theirs = arenas
    starts, values = np.arange(1_000_000, dtype=np.int32), np.ones(1_000_000, np.uint8)
    parcel = pack(Outcome("s", 1, LabelRuns(200, 100, starts[:20_000], values[:20_000])), theirs)
    assert sum(size for _, size in parcel.places) == 100_000
    assert (unpack(parcel, ours, copy=True).labels.to_map() == 1).all()


def test_a_failure_needs_no_room(arenas):
    ours, theirs = arenas
    failure = Failure.dropped(DropReason.ENGINE_ERROR, "no")
    parcel = pack(Outcome("s", 1, failure=failure), theirs)
    assert parcel.places == () and unpack(parcel, ours, copy=True).failure == failure
