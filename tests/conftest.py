"""Settings of all tests: nothing may fail because the machine is slow."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("tilestream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tilestream")


def pytest_addoption(parser):
    parser.addoption("--docker", action="store_true", help="also build images and run the compose stack")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--docker"):
        skip = pytest.mark.skip(reason="takes minutes and a Docker engine: make compose-check")
        for item in items:
            if "docker" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands set up logging for their process; the stream to which they write ends with their test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
