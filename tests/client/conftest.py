"""Shared by the client's tests: the package and the fake server importable, and servers on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "client" / "python"
for folder in (HERE, PACKAGE):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from fake_segmentation import FakeServer, Script  # noqa: E402


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Starts fake servers: ``serve(fate=..., hold=...)``; they end with the test."""
    with ExitStack() as stack:
        yield lambda **script: stack.enter_context(FakeServer(Script(**script)))


@pytest.fixture
def images() -> list[np.ndarray]:
    """Ten small RGB frames, each of its own brightness."""
    return [np.full((32, 48, 3), 20 * index, np.uint8) for index in range(10)]
