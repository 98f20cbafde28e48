"""Frames of a step in batches of few sizes, in memory that stays the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.plans import frame_of
from tilestream.engine.resident.frames import PixelBuffers, ResidentFrame, ResidentSession, padded
from tilestream.engine.resident.network import BUCKETS, batches
from tilestream.messages import Grant, SessionSpec
from tilestream.scheduling.credit import Credit


class NoSlots:
    def table(self, size):
        return None


def entered(name, size, compared=False, value=0):
    pixels = np.full((*size, 3), value, dtype=np.uint8)
    session = ResidentSession(size, Credit())
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    frame = ResidentFrame(frame_of(name, 1, pixels), Grant(), SessionSpec(name, ""), session, tensor)
    frame.compared = compared
    return frame


@given(st.integers(1, 2000))
def test_batches_are_filled_up_by_a_third_at_most(count):
    rows = padded(count)
    assert count <= rows <= max(count, count * 3 / 2)
    assert padded(rows) == rows
    assert padded(count + 1) >= rows


def test_few_sizes_of_batches_occur():
    assert len({padded(count) for count in range(1, 65)}) <= 20


@given(st.integers(0, 300))
def test_whole_frames_go_through_the_network_in_buckets(count):
    parts = batches(count)
    assert sum(size for size, _ in parts) == count
    assert all(0 < size <= bucket and bucket in BUCKETS for size, bucket in parts)
    assert all(size == BUCKETS[-1] for size, _ in parts[:-1])


def test_frames_of_one_size_lie_together_those_that_are_compared_first():
    frames = [
        entered("a", (4, 6), compared=False, value=1),
        entered("b", (8, 6), compared=True, value=2),
        entered("c", (4, 6), compared=True, value=3),
        entered("d", (4, 6), compared=True, value=4),
    ]
    found = {batch.size: batch for batch in PixelBuffers().batches(frames, NoSlots())}
    small = found[4, 6]
    assert [frame.frame.session_id for frame in small.frames] == ["c", "d", "a"]
    assert small.compared == 2 and found[8, 6].compared == 1
    assert small.pixels[:3].flatten(1).unique(dim=1).flatten().tolist() == [3, 4, 1]
    assert (found[8, 6].pixels[0] == 2).all() and small.pixels.is_contiguous()


def test_the_memory_is_the_same_until_more_frames_come():
    buffers = PixelBuffers()

    def pixels(count, size=(4, 6)):
        (batch,) = buffers.batches([entered(str(i), size) for i in range(count)], NoSlots())
        return batch.pixels

    first = pixels(3)
    assert pixels(2) is first and pixels(3) is first
    more = pixels(9)
    assert more is not first and len(more) == padded(9)
    assert pixels(1) is more
    for height in range(5, 9):  # other sizes, which are not kept for ever
        pixels(1, (height, 6))
    assert len(buffers._buffers) == 4
    assert pixels(1) is not more


@pytest.mark.parametrize("compared", [False, True])
def test_what_goes_on_is_compared_and_no_cut(compared):
    frame = entered("a", (4, 6), compared)
    assert frame.goes_on == compared
    frame.cut = True
    assert not frame.goes_on
