"""Tallies are scraped as prometheus_client's own metrics are."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tilestream.telemetry.tallies import Counts, Spreads

BOUNDS = (0.5, 1, 2, 4.25)
events = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 0.75, 1.0, 3.0, 4.25, 1e6])))


@given(events)
def test_the_page_is_the_same(events):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts, spreads = Counts("c", "Text.", ("k",), ours), Spreads("h", "Text.", ("k",), BOUNDS, ours)
    counter = Counter("c", "Text.", ("k",), registry=theirs)
    histogram = Histogram("h", "Text.", ("k",), buckets=BOUNDS, registry=theirs)
    bare = Spreads("bare", "Text.", (), BOUNDS, ours).labels()
    bare_histogram = Histogram("bare", "Text.", buckets=BOUNDS, registry=theirs)
    for label, value in events:
        counts.labels(label).inc(value)
        counter.labels(label).inc(value)
        spreads.labels(label).observe(value)
        histogram.labels(label).observe(value)
        bare.observe(value)
        bare_histogram.observe(value)
    assert _lines(ours) == _lines(theirs)


def _lines(registry: CollectorRegistry) -> list[str]:
    """Without those that tell when a series began, if that is on."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
