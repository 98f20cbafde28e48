"""Pictures of the page while cameras stream; `python -m tools.page_pictures FOLDER` makes those of docs/."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tools.browser import NoBrowserError, browser
from tools.server_process import NotStartedError, free_port, server_process

if TYPE_CHECKING:
    from playwright.async_api import Browser

CAMERAS = ("bus-12 front", "bus-12 rear", "bus-31 front", "tram-4 front")
SERVED = ("--service-level", "20")  # the browsers take the server's time: that is not to lower its budgets
RATES = (2.0, 1.0, 1.5, 0.5)  # frames/s
_DOCS_WAIT_MS = 90_000  # until graphs have something to show
_QUALITY = 82
_LOOK_MS = 120_000  # for the page to show a picture, on a slow machine


class NoPictureError(Exception):
    """The page shows no camera's picture in time, or the browser gave up; the message says which."""


@dataclass(frozen=True)
class Shot:
    """A picture to take. CSS pixels; ``height`` None: as long as the page is. ``scale``: pixels of each.

    ``of_camera``: with one opened, else the list.
    """

    width: int
    height: int | None
    scale: float = 1.0
    colours: Literal["light", "dark"] = "light"
    of_camera: bool = True


SHOTS = {
    "page-phone": Shot(360, None, 1.5, "dark"),
    "page-laptop": Shot(1280, 1010),
    "page-wall": Shot(1920, 1080, colours="dark", of_camera=False),
}


@contextmanager
def cameras(server: str, clip: Path, names: Sequence[str], rates: Sequence[float]) -> Iterator[None]:
    """A camera of each name streams the clip again and again, at so many frames per second, meanwhile."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_stream, args=(server, clip, name, rate, over), daemon=True)
        for name, rate in zip(names, rates, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _stream(server: str, clip: Path, name: str, rate: float, over: threading.Event) -> None:
    from tilestream_client import Client
    from tilestream_client.sources import open_source, paced

    frames = (frame for _ in itertools.count() for frame in open_source(str(clip)))
    sent = itertools.takewhile(lambda _: not over.is_set(), paced(frames, rate))
    with Client(server) as client:
        for _ in client.stream(sent, camera_id=name):
            pass


async def photograph(launched: Browser, address: str, path: Path, shot: Shot, wait_ms: float = 6_000) -> None:
    """The page as somebody sees it who has looked for ``wait_ms``, as a JPEG or PNG file.

    Raises :class:`NoPictureError`.
    """
    from playwright.async_api import Error

    try:
        await _photograph(launched, address, path, shot, wait_ms)
    except Error as error:
        raise NoPictureError(error.message.splitlines()[0]) from error


async def _photograph(launched: Browser, address: str, path: Path, shot: Shot, wait_ms: float) -> None:
    page = await launched.new_page(
        viewport={"width": shot.width, "height": shot.height or 900},
        device_scale_factor=shot.scale,
        color_scheme=shot.colours,
    )
    page.set_default_timeout(_LOOK_MS)
    await page.goto(address)
    await page.locator(".card a").first.wait_for()
    await page.wait_for_timeout(wait_ms / 2)
    if shot.of_camera:
        await page.locator(".card a").first.click()
        await page.locator(".canvases[data-frame]").wait_for()
    await page.wait_for_timeout(wait_ms / 2)
    quality = {"type": "jpeg", "quality": _QUALITY} if path.suffix == ".jpg" else {"type": "png"}
    await page.screenshot(path=path, full_page=shot.height is None, **quality)  # type: ignore[arg-type]
    await page.close()


async def _all(address: str, folder: Path) -> None:
    async with browser() as launched:
        await asyncio.gather(
            *(
                photograph(launched, address, folder / f"{name}.jpg", shot, _DOCS_WAIT_MS)
                for name, shot in SHOTS.items()
            )
        )


def main() -> int:
    """Make the pictures of docs/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--video", type=Path, help="what the cameras show, instead of the drawn street")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        clip = arguments.video or _street(Path(name) / "street.mp4")
        port = free_port()
        try:
            with (
                server_process(Path(name), *SERVED, "--web-port", str(port), "--web-frames") as (_, grpc),
                cameras(f"127.0.0.1:{grpc}", clip, CAMERAS, RATES),
            ):
                asyncio.run(_all(f"http://127.0.0.1:{port}/", arguments.folder))
        except (NoBrowserError, NoPictureError, NotStartedError) as error:
            print(f"page_pictures: {error}", file=sys.stderr)
            return 1
    return 0


def _street(path: Path) -> Path:
    from tilestream_street import write_clip

    write_clip(path, seed=12, frames=90, width=480, height=288, fps=15.0)
    return path


if __name__ == "__main__":
    sys.exit(main())
