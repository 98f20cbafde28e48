"""Random generators that depend only on a path of integers, so that any part can be made in any order."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Topic(IntEnum):
    """What a generator is for: keeps the streams of different parts apart."""

    STYLE = 1
    ROUTE = 2
    DRIVE = 3
    CHUNK = 4
    FACADE = 5
    GROUND = 6
    TREE = 7
    PERSON = 8
    CYCLE = 9
    CAR = 10
    SIGN = 11
    FENCE = 12
    SKY = 13
    NOISE = 14
    TRAFFIC = 15
    WALL = 16
    POLE = 17


def generator(seed: int, topic: Topic, *path: int) -> np.random.Generator:
    """A generator for one thing; `path` may hold negative integers."""
    words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, int(topic)]
    words += [(value + (1 << 31)) & 0xFFFFFFFF for value in path]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
