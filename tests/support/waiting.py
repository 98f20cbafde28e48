"""Waiting for what others do: as long as it takes on a slow machine, and no longer than needed."""

import asyncio
import time
from collections.abc import Callable

LONG = 120.0  # seconds: of no meaning, but that something hangs is told before pytest's own limit


async def until(condition: Callable[[], object]) -> None:
    """Until it comes true, while the event loop goes on."""
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.002)


def wait_until(condition: Callable[[], object]) -> None:
    """Until it comes true by what other threads or processes do."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"not within {LONG:g} s"
        time.sleep(0.005)
