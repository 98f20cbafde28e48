"""The monitor without labels: what it adds up to, and how two orders are compared."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilestream.messages import FrameStats
from tilestream_training.monitor import Monitor, rank_correlation


def told(agreement: float | None, pixels: int = 0, age: float = 0.0) -> FrameStats:
    return FrameStats(False, 1, 4, agreement=agreement, agreement_pixels=pixels, agreement_age=age)


def test_pixels_weigh_the_agreement():
    monitor = Monitor()
    assert monitor.agreement is None and monitor.wrong is None
    for stats in (told(None), told(1.0, 300, 2.0), told(0.6, 100, 2.0)):
        monitor.add(stats, 1000)
    assert monitor.agreement == pytest.approx(0.9)


@given(st.integers(2, 12), st.floats(0.001, 0.05))
def test_labels_that_go_wrong_at_a_steady_rate_are_estimated_exactly(k, rate):
    """A key frame every k frames: between two of them, 0, 1, ... k - 1 times the rate is wrong."""
    monitor = Monitor()
    for _ in range(5):
        for age in range(1, k + 1):
            monitor.add(told(1 - rate * age, 1000, age) if age == k else told(None), 1000)
    assert monitor.wrong == pytest.approx(sum(rate * age for age in range(k)) / k)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20, unique=True))
def test_ranks_are_all_that_counts(values):
    assert rank_correlation(values, [math.atan(value) for value in values]) == pytest.approx(1)
    assert rank_correlation(values, [-(value**3) for value in values]) == pytest.approx(-1)


def test_ties_share_a_rank():
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
    assert math.isnan(rank_correlation([1, 1], [1, 2])) and math.isnan(rank_correlation([1], [1]))
