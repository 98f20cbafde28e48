"""The page in a real browser. Minutes: only with --long; needs Debian's chromium."""

import asyncio
import contextlib
import itertools
import os

import cv2
import numpy as np
import pytest
import pytest_asyncio

from support.fake_engine import STEP, FakeEngine, fake_model
from support.frames import encode
from support.identities import open_as, tokens_of
from support.page import paged
from support.server import Running, Stream
from support.waiting import LONG
from tilestream.v1 import segmentation_pb2 as pb
from tilestream_client.masks import decode_png
from tools.browser import NoBrowserError, browser, find_browser

try:
    find_browser()
    WHY_NOT = ""
except NoBrowserError as error:
    WHY_NOT = f"THE PAGE WAS NOT LOOKED AT: {error}"
    assert not os.environ.get("TILESTREAM_REQUIRE_BROWSER"), WHY_NOT

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
PALETTE = np.array(fake_model().palette, np.uint8)
SIZES = {"phone": (360, 740), "laptop": (1280, 800), "wall": (3840, 2160)}


@pytest_asyncio.fixture
async def chromium():
    async with browser() as launched:
        yield launched


class Tab:
    """An open page, and what it complained of."""

    def __init__(self, page) -> None:
        self.page, self.complaints = page, []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    async def until(self, script: str, argument=None) -> None:
        """Until a script says so. The page's policy forbids what Playwright has for that."""
        async with asyncio.timeout(LONG):
            while not await self.page.evaluate(script, argument):
                await asyncio.sleep(0.05)

    async def text(self, selector: str) -> list[str]:
        return await self.page.locator(selector).all_inner_texts()

    async def cameras(self, *names: str) -> None:
        """Until these are listed, and no others."""
        script = (
            "names => [...document.querySelectorAll('.card h3')].map(one => one.textContent).join() === names"
        )
        await self.until(script, ",".join(names))


@contextlib.asynccontextmanager
async def tab(chromium, r: Running, size: str = "laptop", **options):
    width, height = SIZES[size]
    context = await chromium.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(LONG * 1000)
    opened = Tab(await context.new_page())
    await opened.page.goto(f"http://127.0.0.1:{r.server.settings.web_port}/")
    try:
        yield opened
    finally:
        await context.close()


class Camera:
    """Sends frames of moving stripes until it is stopped, and keeps what it is answered."""

    def __init__(self, stream: Stream, width: int = 160, height: int = 96) -> None:
        self.stream, self.size = stream, (width, height)
        self.labels: dict[int, np.ndarray] = {}
        self._over = False
        self._task = asyncio.create_task(self._send())
        self._task.add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )  # the server went first

    @property
    def session(self) -> str:
        return self.stream.started.session_id

    async def stop(self) -> None:
        """Send no more; the stream stays open."""
        self._over = True  # to cancel it would cancel the stream
        await self._task

    async def end(self) -> None:
        await self.stop()
        await self.stream.done()
        await self.stream.rest()

    async def _send(self) -> None:
        width, height = self.size
        for number in itertools.count():
            if self._over:
                return
            image = np.zeros((height, width, 3), np.uint8)
            for x in range(0, width, 16):
                image[:, x : x + 16] = STEP * ((x // 16 + number) % 12)
            await self.stream.frame(number, encode(image))
            mask = (await self.stream.result()).mask
            self.labels[number] = decode_png(mask.data, mask.width, mask.height)
            await asyncio.sleep(0.05)


async def test_the_page_shows_what_list_sessions_says(chromium):
    async with paged() as r, tab(chromium, r) as seen:
        r.engine.whole_interval = 4
        await seen.until("document.querySelector('.nobody')?.textContent.includes('No camera')")
        cameras = [Camera(await r.open(camera_id=name)) for name in ("front", "rear", "")]
        await seen.cameras("front", "rear", cameras[2].session)
        for camera in cameras:
            await camera.stop()
        listed = (await r.stub.ListSessions(pb.ListSessionsRequest())).sessions
        for camera, session in zip(cameras, listed, strict=True):
            card = f".card[data-session='{camera.session}']"
            expected = {
                "Budget": f"{100 * session.block_budget:.0f} %",
                "Agreement": f"{100 * session.agreement:.1f} %",
                "Block drop": f"{100 * session.block_drop_rate:.0f} %",
            }
            for name, text in expected.items():
                await (
                    seen.page.locator(f"{card} dl > div", has_text=name)
                    .locator("dd", has_text=text)
                    .wait_for()
                )
            assert session.model in (await seen.text(f"{card} .about"))[0]
            assert "160×96" in (await seen.text(f"{card} .about"))[0]
            assert await seen.page.locator(f"{card} .graph .line[d*='M']").count() == 5
        assert (await seen.text(".tiles dd"))[0] == "3 of 64"
        assert (await seen.text(".models h3"))[0].split() == ["fake", "default"]
        assert not seen.complaints


@pytest.mark.parametrize("encoding", ["PNG", "RLE"])
async def test_the_picture_s_labels_are_the_client_s(chromium, encoding):
    """Whatever the client's masks are encoded as, it draws the same colours at the same pixels."""
    async with paged(FakeEngine(runs=True)) as r, tab(chromium, r) as seen:
        camera = Camera(await r.open(camera_id="front"))
        other = await r.open(camera_id="rear", mask_encoding=f"MASK_ENCODING_{encoding}")
        await seen.page.get_by_role("link", name="front").click()
        await seen.until("document.querySelector('.canvases')?.dataset.frame > 0")
        await seen.page.get_by_role("button", name="Pause").click()
        await asyncio.sleep(0.5)  # what is under way may still come
        drawn = """() => {
            const [frame, labels] = document.querySelectorAll('.canvases canvas');
            const pixels = (canvas) => {
                const context = canvas.getContext('2d');
                return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
            };
            return [+document.querySelector('.canvases').dataset.frame, pixels(frame), pixels(labels)];
        }"""
        number, frame, labels = await seen.page.evaluate(drawn)
        width, height = camera.size
        expected = camera.labels[number]
        assert (np.reshape(labels, (height, width, 4))[..., :3] == PALETTE[expected]).all()
        gray = np.reshape(frame, (height, width, 4))[..., 0].astype(int)
        assert np.abs(gray - STEP * expected.astype(int)).mean() < 3, "the frame under them is theirs"
        shares = dict(zip(await seen.text(".areas th"), await seen.text(".areas .share"), strict=True))
        for value in range(12):
            share = (expected == value).mean()
            assert shares[f"class{value}"] == (f"{100 * share:.1f} %" if share else "–")
        assert other.started.session_id and not seen.complaints


async def test_opacity_and_bins(chromium):
    async with paged() as r, tab(chromium, r) as seen:
        Camera(await r.open(camera_id="front"))
        await seen.page.get_by_role("link", name="front").click()
        await seen.page.get_by_role("img", name="Latest frame").wait_for()
        slider = seen.page.get_by_role("slider", name="Labels")
        await slider.focus()
        await seen.page.keyboard.press("End")
        assert await seen.page.locator("canvas.labels").evaluate("one => one.style.opacity") == "1"
        await seen.page.keyboard.press("Home")
        assert await seen.page.locator("canvas.labels").evaluate("one => one.style.opacity") == "0"
        assert await seen.page.locator("canvas.bins").is_hidden()
        await seen.page.get_by_role("checkbox", name="Bins").check()
        await seen.page.locator("canvas.bins").wait_for(state="visible")
        assert "6 of 6 bins" in (await seen.text(".stage .about"))[0]
        assert not seen.complaints


async def test_a_camera_that_ends_goes_away(chromium):
    async with paged() as r, tab(chromium, r) as seen, tab(chromium, r) as inside:
        front, rear = [Camera(await r.open(camera_id=name)) for name in ("front", "rear")]
        await seen.cameras("front", "rear")
        await inside.page.get_by_role("link", name="front").click()
        await inside.page.get_by_role("img", name="Latest frame").wait_for()
        await front.end()
        await seen.cameras("rear")
        await inside.page.get_by_text("session is over").wait_for()
        assert await inside.page.locator(".canvases").is_hidden(), "its picture does not stay"
        await inside.page.get_by_role("link", name="All cameras").last.click()
        await inside.cameras("rear")
        await rear.end()
        await seen.cameras()


async def test_ten_viewers_see_the_same_camera(chromium):
    async with paged() as r, contextlib.AsyncExitStack() as stack:
        camera = Camera(await r.open(camera_id="front"))
        tabs = [await stack.enter_async_context(tab(chromium, r)) for _ in range(10)]
        for seen in tabs:
            await seen.page.get_by_role("link", name="front").click()
        for seen in tabs:
            await seen.until("document.querySelector('.canvases')?.dataset.frame > 0")
            assert not seen.complaints
        before = [await seen.page.locator(".canvases").get_attribute("data-frame") for seen in tabs]
        for seen, number in zip(tabs, before, strict=True):
            await seen.until(
                "before => +document.querySelector('.canvases').dataset.frame > before", int(number)
            )
        assert len(r.server._page._viewers) == 10
        assert sorted(camera.labels) == list(range(len(camera.labels))), "no frame of it was lost"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_nothing_is_cut_off_at_any_size(chromium, size, scheme):
    async with paged() as r, tab(chromium, r, size, color_scheme=scheme) as seen:
        for number in range(12):
            Camera(
                await r.open(camera_id=f"a-camera-with-quite-a-long-name-{number:02}" * (1 + number % 3)),
                320,
                192,
            )
        await seen.until("document.querySelectorAll('.card').length === 12")
        ground = await seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(244, 246, 248)") == (scheme == "light")
        await not_cut_off(seen)
        await seen.page.locator(".card a").first.click()
        await seen.until("document.querySelector('.canvases')?.dataset.frame > 0")
        await not_cut_off(seen)
        assert not seen.complaints


async def not_cut_off(seen: Tab) -> None:
    assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    numbers = "[...document.querySelectorAll('dd, dt, .share, .state, button')]"
    assert await seen.page.evaluate(f"{numbers}.every(one => one.scrollWidth <= one.clientWidth + 1)")


async def test_the_keyboard_is_enough(chromium):
    async with paged() as r, tab(chromium, r) as seen:
        Camera(await r.open(camera_id="front"))
        await seen.cameras("front")
        for _ in range(10):
            await seen.page.keyboard.press("Tab")
            if await seen.page.evaluate("document.activeElement.textContent") == "front":
                break
        await seen.page.keyboard.press("Enter")
        await seen.page.get_by_role("heading", name="front").wait_for()
        await seen.until("document.activeElement.tagName === 'H2'")  # where a screen reader goes on
        assert await seen.page.title() == "front · tilestream"
        await seen.page.keyboard.press("Escape")
        await seen.page.get_by_role("heading", name="Cameras").wait_for()
        names = (
            "[...document.querySelectorAll('input, button, a')].map(one => [one.outerHTML, one.ariaLabel || "
        )
        names += "one.labels?.[0]?.textContent || one.textContent])"
        assert all(name.strip() for _, name in await seen.page.evaluate(names))


async def test_a_token_is_asked_for_and_forgotten(chromium, tmp_path):
    (token,) = tokens_of(tmp_path / "tokens", "berlin")
    async with paged(token_file=tmp_path / "tokens") as r, tab(chromium, r) as seen:
        Camera(await open_as(r, token, camera_id="front"))
        field = seen.page.get_by_label("Token")
        await field.fill("ts_wrong")
        await field.press("Enter")
        await seen.page.get_by_role("alert").filter(has_text="not known").wait_for()
        assert await seen.page.locator(".card").count() == 0
        await field.fill(token)
        await field.press("Enter")
        await seen.cameras("front")
        assert "berlin" in (await seen.text("#server"))[0] and token not in seen.page.url
        await seen.page.reload()
        await seen.cameras("front")
        await seen.page.get_by_role("button", name="Forget token").click()
        await field.wait_for()
        assert await seen.page.locator(".card").count() == 0


async def test_without_pictures_the_page_says_how_to_have_them(chromium):
    async with paged(web_frames=False) as r, tab(chromium, r) as seen:
        Camera(await r.open(camera_id="front"))
        await seen.page.get_by_role("link", name="front").click()
        await seen.page.get_by_text("--web-frames").wait_for()
        assert await seen.page.locator("canvas").count() == 0 and not seen.complaints


async def test_names_are_text_and_nothing_else(chromium):
    name = "<img src=x onerror=alert(1)>"
    async with paged() as r, tab(chromium, r) as seen:
        Camera(await r.open(camera_id=name))
        await seen.cameras(name)
        await seen.page.get_by_role("link", name=name).click()
        await seen.page.get_by_role("heading", name=name).wait_for()
        assert await seen.page.locator("main img").count() == 0 and not seen.complaints


async def test_pictures_lie_as_their_labels_do_whatever_their_tags_say(chromium):
    """The server does not turn a picture that is marked as turned, so neither may the browser."""
    image = np.zeros((96, 160, 3), np.uint8)
    image[:, :80] = STEP * 5
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = cv2.imencode(".jpg", image)[1].tobytes()
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    async with paged() as r, tab(chromium, r) as seen:
        stream = await r.open(camera_id="front")
        await seen.page.get_by_role("link", name="front").click()
        for number in range(1000):
            await stream.frame(number, turned)
            await stream.result()
            if await seen.page.evaluate("document.querySelector('.canvases')?.dataset.frame"):
                break
            await asyncio.sleep(0.1)
        size = "[...document.querySelectorAll('.frame, .labels')].map(one => [one.width, one.height])"
        assert await seen.page.evaluate(size) == [[160, 96], [160, 96]]


async def test_the_page_goes_on_when_the_server_is_back(chromium):
    async with paged() as r, tab(chromium, r) as seen:
        port = r.server.settings.web_port
        await r.open(camera_id="before")
        await seen.cameras("before")
        await r.server.stop(grace=0.0)
        await seen.page.get_by_role("status").filter(has_text="does not answer").wait_for()
        async with paged(web_port=port) as again:
            await again.open(camera_id="after")
            await seen.cameras("after")


async def test_a_tab_that_nobody_sees_asks_for_nothing(chromium):
    async with paged() as r, tab(chromium, r) as seen:
        Camera(await r.open(camera_id="front"))
        await seen.page.get_by_role("link", name="front").click()
        await seen.page.get_by_role("img", name="Latest frame").wait_for()
        hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        hide += " document.dispatchEvent(new Event('visibilitychange')); }"
        await seen.page.evaluate(hide, True)
        await asyncio.sleep(1.5)  # what is under way may still come
        asked = []
        seen.page.on("request", lambda request: asked.append(request.url))
        await asyncio.sleep(3.0)
        assert not asked
        await seen.page.evaluate(hide, False)
        before = int(await seen.page.locator(".canvases").get_attribute("data-frame"))
        await seen.until("before => +document.querySelector('.canvases').dataset.frame > before", before)
