"""Percentiles and counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilestream_client import FrameStatus, Model, Result, ReuseStats
from tilestream_client.stats import Latencies, Tally

times = st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(times, times, st.floats(0, 100))
def test_percentiles_are_right_to_a_percent(first, second, percent):
    latencies, other = Latencies(), Latencies()
    for value in first:
        latencies.add(value)
    for value in second:
        other.add(value)
    latencies.merge(other)
    ordered = sorted(first + second)
    exact = ordered[max(1, math.ceil(percent / 100 * len(ordered))) - 1]
    assert latencies.percentile(percent) == pytest.approx(exact, rel=0.006)
    assert len(latencies) == len(ordered)


def test_without_any_there_are_no_percentiles():
    assert Latencies().milliseconds() == {"p50": None, "p90": None, "p99": None}


@given(st.lists(st.sampled_from(list(FrameStatus)), max_size=20), st.integers(0, 5))
def test_the_account_adds_up(fates, lost):
    model, tally = Model("m"), Tally()
    for index, fate in enumerate(fates):
        reuse = ReuseStats(index == 0, 25, 75, agreement=0.5) if fate is FrameStatus.OK else None
        tally.add(Result(index, fate, model, latency=0.02, reuse=reuse))
    tally.sent = len(fates) + lost
    double = Tally()
    double.merge(tally)
    double.merge(tally)
    for each, factor in ((tally, 1), (double, 2)):
        report = each.report(seconds=2.0)
        answered = report["frames_ok"] + report["frames_dropped"] + report["frames_invalid"]
        assert report["frames_sent"] == answered + report["frames_unanswered"] == factor * (len(fates) + lost)
        assert report["fps"] == report["frames_ok"] / 2
        assert each.block_drop_rate == (0.75 if report["frames_ok"] else 0)
        assert each.agreement == (0.5 if report["frames_ok"] else None)
        assert len(each.latencies) == len(each.server) == report["frames_ok"]
