"""Settings of all tests: nothing may fail because the machine is slow."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# What is small is not faster with more threads, and much slower where they wait for a core that is busy. Set
# before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("tilestream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tilestream")


OPTIONAL = {
    "docker": (
        "build images and run the compose stack",
        "takes minutes and a Docker engine: make compose-check",
    ),
    "long": ("run what takes minutes each", "takes minutes: make test-long"),
}
"""Markers of tests that run only if asked for: what their option does, and why they are skipped."""


def pytest_addoption(parser):
    for name, (what, _) in OPTIONAL.items():
        parser.addoption(f"--{name}", action="store_true", help=f"also {what}")


def pytest_collection_modifyitems(config, items):
    for name, (_, why) in OPTIONAL.items():
        if not config.getoption(f"--{name}"):
            for item in items:
                if name in item.keywords:
                    item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands set up logging for their process; the stream to which they write ends with their test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
