"""Counters and histograms for what happens with every frame: plain numbers, of which a scrape makes samples.

``prometheus_client``'s own take a lock and check themselves at every event, some 25 times a frame. These are
written by one thread and read by any: what a reader sees may lack the event that is being counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count:
    """A number that only grows."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add to it."""
        self.total += amount


class Spread:
    """How many values there were up to each of some ascending bounds, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # by bucket; the last is of what is above all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


_Series = TypeVar("_Series", Count, Spread)


class _Family(Collector, Generic[_Series]):
    """The series of a metric by the values of its labels; one without labels where it has none."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labelnames = name, text, tuple(labels)
        self._series: dict[tuple[str, ...], _Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> _Series:
        """The series with these values, which begins now if it is new."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = self._begin()
        return series

    def _begin(self) -> _Series:
        raise NotImplementedError


class Counts(_Family[Count]):
    """A metric of counters; its name ends without ``_total``."""

    def _begin(self) -> Count:
        return Count()

    def collect(self) -> Iterable[Metric]:
        """The samples of now."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labelnames)
        for values, series in list(self._series.items()):
            family.add_metric(values, series.total)
        yield family


class Spreads(_Family[Spread]):
    """A metric of histograms with these bounds, ascending."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._bounds = tuple(map(float, bounds))
        self._names = [floatToGoString(bound) for bound in (*self._bounds, float("inf"))]
        super().__init__(name, text, labels, registry)

    def _begin(self) -> Spread:
        return Spread(self._bounds)

    def collect(self) -> Iterable[Metric]:
        """The samples of now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labelnames)
        for values, series in list(self._series.items()):
            buckets = list(zip(self._names, map(float, accumulate(series.counts)), strict=True))
            family.add_metric(values, buckets, series.total)
        yield family
