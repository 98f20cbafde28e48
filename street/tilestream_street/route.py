"""The street's centre line and the drive along it, both endless and open to random access."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilestream_street.seeding import Topic, generator

CHUNK_LENGTH = 16.0
"""Metres of street per chunk; a chunk is straight, bends are made of short straights."""
_BLEND = 6.0
_LEG = 5.0
"""Seconds over which the speed goes from one target to the next."""


class Route:
    """Centre line: chunk k runs from `start(k)` along `heading(k)`."""

    def __init__(self, seed: int, bendiness: float) -> None:
        self._seed = seed
        self._bendiness = bendiness
        self._headings: list[float] = []
        self._starts: list[NDArray[np.float64]] = []

    def _grow(self, chunk: int) -> None:
        # chunks before 0 do not exist: the drive starts well inside chunk 2
        while len(self._starts) <= chunk + 1:
            k = len(self._starts)
            if k == 0:
                self._starts.append(np.zeros(2))
                self._headings.append(0.0)
                continue
            section = k // 5
            rng = generator(self._seed, Topic.ROUTE, section)
            turn = float(rng.uniform(-1, 1)) * self._bendiness if rng.random() < 0.55 else 0.0
            heading = self._headings[-1]
            step = np.array([np.sin(heading), np.cos(heading)])
            self._starts.append(self._starts[-1] + CHUNK_LENGTH * step)
            self._headings.append(heading + turn)

    def start(self, chunk: int) -> NDArray[np.float64]:
        """float64 [2], (x, z) of the chunk's first point."""
        self._grow(max(chunk, 0))
        return self._starts[max(chunk, 0)]

    def heading(self, chunk: int) -> float:
        self._grow(max(chunk, 0))
        return self._headings[max(chunk, 0)]

    def _point(self, s: float) -> NDArray[np.float64]:
        k = int(s // CHUNK_LENGTH)
        heading = self.heading(k)
        return self.start(k) + (s - k * CHUNK_LENGTH) * np.array([np.sin(heading), np.cos(heading)])

    def pose(self, s: float) -> tuple[NDArray[np.float64], float]:
        """((x, z), heading) at `s` metres, smoothed over the joints between chunks."""
        s = max(s, 2 * _BLEND)
        point = (self._point(s - _BLEND / 2) + self._point(s) * 2 + self._point(s + _BLEND / 2)) / 4
        ahead = self._point(s + _BLEND) - self._point(s - _BLEND)
        return point, float(np.arctan2(ahead[0], ahead[1]))


class Drive:
    """Distance and speed of the ego car over time (seconds)."""

    def __init__(self, seed: int, cruise: float, stops: float) -> None:
        self._seed = seed
        self._cruise = cruise
        self._stops = stops
        self._targets: list[float] = []
        self._distances: list[float] = [0.0]

    def _target(self, leg: int) -> float:
        while len(self._targets) <= leg:
            k = len(self._targets)
            rng = generator(self._seed, Topic.DRIVE, k)
            stop = k > 0 and rng.random() < self._stops
            self._targets.append(0.0 if stop else self._cruise * float(rng.uniform(0.55, 1.25)))
        return self._targets[leg]

    def at(self, seconds: float) -> tuple[float, float]:
        """(metres driven, metres per second)."""
        leg = int(seconds // _LEG)
        while len(self._distances) <= leg:
            k = len(self._distances) - 1
            mean = (self._target(k) + self._target(k + 1)) / 2
            self._distances.append(self._distances[-1] + _LEG * mean)
        u = seconds / _LEG - leg
        v0, v1 = self._target(leg), self._target(leg + 1)
        # speed eases from v0 to v1 as 3u^2 - 2u^3; its integral is u^3 - u^4 / 2
        metres = self._distances[leg] + _LEG * (v0 * u + (v1 - v0) * (u**3 - u**4 / 2))
        return metres, v0 + (v1 - v0) * (3 * u * u - 2 * u**3)
