"""Warm up, stay, decay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilestream_training.schedule import WarmupStableDecay


def test_values() -> None:
    schedule = WarmupStableDecay(total=100, warmup=4, decay=10, floor=0.05)
    assert [schedule.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule.factor(90) == 1.0
    assert schedule.factor(95) == pytest.approx(0.5)
    assert schedule.factor(99) == pytest.approx(0.1)
    assert WarmupStableDecay(100, 4, 100).factor(99) == pytest.approx(0.01)


@given(
    warmup=st.integers(0, 50), plateau=st.integers(0, 50), decay=st.integers(0, 50), floor=st.floats(0.0, 0.5)
)
def test_rises_stays_falls(warmup, plateau, decay, floor) -> None:
    total = warmup + plateau + decay
    schedule = WarmupStableDecay(total, warmup, decay, floor)
    factors = [schedule.factor(step) for step in range(total)]
    rise, stay, fall = factors[:warmup], factors[warmup : warmup + plateau], factors[warmup + plateau :]
    assert all(0.0 < factor <= 1.0 for factor in rise) and rise == sorted(rise)
    assert all(factor == 1.0 for factor in stay)
    assert all(floor <= factor <= 1.0 for factor in fall) and fall == sorted(fall, reverse=True)


@given(st.integers(100, 1000), st.integers(1, 1000))
def test_prolonging_changes_nothing_before_the_decay(total, more) -> None:
    short, long = WarmupStableDecay(total, 10, 30), WarmupStableDecay(total + more, 10, 30)
    assert all(short.factor(step) == long.factor(step) for step in range(total - 30))
