"""Whatever an engine charges for what: overload control never answers fewer frames than pinned budgets do."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.engine_prices import ENGINES, PINNED, Prices, settled, stream
from tilestream.scheduling.overload import Remedy
from tilestream.scheduling.scheduler import Limits

SECONDS = 12.0
NOISE = 0.95  # of steps' times, and of what is tried to learn what budgets bring


def both(prices: Prices, cameras: int, fps: float, budget: float = 1.0, seconds: float = SECONDS):
    """What a server comes to whose budgets are pinned at 1, and an adaptive one."""
    pinned = stream(prices, cameras, fps, 1.0, PINNED, seconds)
    adaptive = stream(prices, cameras, fps, budget, Limits(), seconds)
    return settled(pinned, seconds), settled(adaptive, seconds)


@pytest.mark.parametrize(
    ("name", "cameras", "budget", "times", "remedy"),
    [
        ("CPU", 16, 1.0, 4.0, "lower"),
        ("CPU", 16, 0.5, 4.0, "lower"),
        ("GPU, state on the host", 16, 1.0, NOISE, "none"),
        ("GPU, state on the host", 16, 0.5, NOISE, "whole"),
        ("GPU, everything compared", 16, 1.0, NOISE, "none"),
        ("GPU, everything compared", 16, 0.5, NOISE, "whole"),
        ("GPU, state on the device", 128, 1.0, 1.6, "lower"),
        ("GPU, state on the device", 128, 0.5, 1.6, "lower"),
    ],
)
def test_the_adaptive_server_answers_at_least_as_much_as_the_pinned_one(name, cameras, budget, times, remedy):
    pinned, adaptive = both(ENGINES[name], cameras, 15.0, budget, 8.0 if cameras > 64 else SECONDS)
    assert adaptive["fps"] >= times * pinned["fps"]
    assert adaptive["remedy"] == remedy
    if remedy == "none":
        assert adaptive["budget"] >= 0.95 * budget, "budgets that bring nothing are left alone"
    if remedy == "whole":
        assert adaptive["budget"] == 1.0


@st.composite
def engines(draw: st.DrawFn) -> Prices:
    """Of any proportions, none so fast that there would be many frames to simulate."""

    def milliseconds(least: float, most: float) -> float:
        return draw(st.sampled_from((0.0, 1.0))) * least * (most / least) ** draw(st.floats(0.0, 1.0))

    frame, whole = milliseconds(0.3, 20.0), milliseconds(0.5, 60.0)
    return Prices(
        step=milliseconds(0.5, 40.0),
        frame=max(frame, 4.0 - whole),
        compared=milliseconds(0.1, 20.0),
        whole=whole,
        batch=milliseconds(0.1, 5.0),
        spread=draw(st.booleans()),
    )


@settings(max_examples=12, deadline=None)
@given(engines(), st.sampled_from((4, 12)), st.sampled_from((1.3, 3.0)), st.sampled_from((0.25, 1.0)))
def test_no_prices_make_the_adaptive_server_answer_less(prices, cameras, load, budget):
    fps = load * prices.dense_fps(cameras) / cameras
    pinned, adaptive = both(prices, cameras, fps, budget)
    assert adaptive["fps"] >= NOISE * pinned["fps"]


def test_it_is_told_once_that_budgets_bring_nothing(caplog):
    with caplog.at_level(logging.WARNING, "tilestream.scheduling.overload"):
        record = stream(ENGINES["GPU, everything compared"], 16, 15.0, 1.0, Limits(), 40.0)
    assert [message for message in caplog.messages if "would not help" in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert record.loads[-1][1].remedy is Remedy.NONE and record.drops


def test_steps_become_large_where_they_are_what_costs():
    """One frame at a time, such an engine makes 32 frames/s."""
    pinned, adaptive = both(ENGINES["dear steps"], 64, 15.0)
    assert pinned["frames_per_step"] > 25 and pinned["fps"] > 500
    assert adaptive["fps"] > pinned["fps"]
