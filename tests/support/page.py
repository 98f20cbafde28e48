"""The page as a browser's scripts use it, without the browser."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import numpy as np

from support.clock import ManualClock
from support.processes import free_port
from support.server import Running, running
from tilestream_client.masks import decode_png


@dataclass(frozen=True)
class Seen:
    """A picture of a camera, as it came."""

    about: dict
    frame: bytes
    png: bytes

    @property
    def labels(self) -> np.ndarray:
        return decode_png(self.png, self.about["width"], self.about["height"])


class Page:
    """One viewer. ``shown``: its token."""

    def __init__(self, address: str, shown: str = "", viewer: str = "viewer-1", **session) -> None:
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        self.address, self.viewer = address, viewer
        self.http = aiohttp.ClientSession(headers=headers, **session)

    async def get(self, path: str, headers: dict | None = None, **query):
        """The answer, read to its end: its status, headers and body."""
        async with self.http.get(
            f"{self.address}{path}", params={"viewer": self.viewer, **query}, headers=headers
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def json(self, path: str, **query) -> dict:
        status, _, body = await self.get(path, **query)
        assert status == 200, body
        return json.loads(body)

    async def live(self) -> dict:
        return await self.json("api/sessions")

    async def sessions(self) -> list[dict]:
        return (await self.live())["sessions"]

    async def picture(self, session: str, after: int = -1, bins: bool = False) -> Seen | None:
        """The camera's next picture; None: there was none for a while."""
        query = {"viewer": self.viewer, "after": after, **({"bins": 1} if bins else {})}
        address = f"{self.address}api/sessions/{session}/picture"
        async with self.http.get(address, params=query) as answer:
            if answer.status == 204:
                return None
            assert answer.status == 200, await answer.text()
            form = aiohttp.MultipartReader.from_response(answer)
            parts = {}
            while (part := await form.next()) is not None:
                parts[part.name] = bytes(await part.read())
        return Seen(json.loads(parts["about"]), parts["frame"], parts["labels"])


@contextlib.asynccontextmanager
async def look(
    r: Running, shown: str = "", context: ssl.SSLContext | None = None, **more
) -> AsyncIterator[Page]:
    """A viewer of a running server's page. ``context``: by TLS."""
    scheme = "https" if context else "http"
    connector = aiohttp.TCPConnector(ssl=context or True)
    page = Page(f"{scheme}://127.0.0.1:{r.server.settings.web_port}/", shown, connector=connector, **more)
    async with page.http:
        yield page


@contextlib.asynccontextmanager
async def paged(
    engine=None, clock: ManualClock | None = None, connect=None, **settings
) -> AsyncIterator[Running]:
    """A server with a page that shows pictures."""
    more = {"connect": connect} if connect else {}
    async with running(
        engine, clock, **more, **{"web_port": free_port(), "web_frames": True, **settings}
    ) as r:
        yield r
