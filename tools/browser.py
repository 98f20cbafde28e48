"""The browser that looks at the page, for tests, the demo and the pictures in docs/: Debian's Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = ("--disable-gpu", "--disable-background-networking", "--hide-scrollbars")


class NoBrowserError(Exception):
    """There is no browser, or nothing that drives it; the message says what to install."""


def find_browser() -> str:
    """The path of a browser. Raises :class:`NoBrowserError`."""
    for name in _NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise NoBrowserError("there is no browser: sudo apt-get install chromium")


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser without a window. Raises :class:`NoBrowserError`."""
    path = find_browser()
    try:
        from playwright.async_api import Error, async_playwright
    except ImportError as error:
        raise NoBrowserError("nothing drives the browser: pip install playwright") from error
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # its sandbox does not work for root
    async with async_playwright() as driver:
        try:
            launched = await driver.chromium.launch(executable_path=path, args=[*_QUIET, *as_root])
        except Error as error:
            raise NoBrowserError(f"{path} does not start: {error.message.splitlines()[0]}") from error
        try:
            yield launched
        finally:
            await launched.close()
