"""What the page answers to browsers, and to what is none: headers, names, methods, limits."""

import asyncio
import logging
import re
from pathlib import Path

import pytest

import tilestream.web
from support.clock import ManualClock
from support.frames import jpeg
from support.page import look, paged
from support.processes import free_port
from support.server import running
from support.waiting import until
from tilestream.config import Settings
from tilestream.server import Server, StartError
from tilestream.v1 import segmentation_pb2 as pb
from tilestream.web.connections import PATIENCE

STATIC = Path(tilestream.web.__file__).parent / "static"
PATIENT = {"idle_timeout": 0, "heartbeat_interval": 0}


async def test_there_is_no_page_unless_it_is_asked_for():
    async with running() as r:
        assert r.server._page is None


async def test_every_answer_is_guarded():
    async with paged() as r, look(r) as page:
        stream = await r.open()
        answers = {
            path: await page.get(path)
            for path in ("", "page.css", "main.js", "icon.svg", "api/server", "api/sessions", "nothing-there")
        }
        assert [status for status, _, _ in answers.values()] == [200] * 6 + [404]
        for path, (_, headers, _) in answers.items():
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy, path
            assert "frame-ancestors 'none'" in policy and headers["X-Content-Type-Options"] == "nosniff"
            assert (
                headers["Cross-Origin-Resource-Policy"] == "same-origin"
                and headers["Referrer-Policy"] == "no-referrer"
            )
            assert "aiohttp" not in headers["Server"].lower()
        assert answers["api/sessions"][1]["Cache-Control"] == "no-store"
        assert answers[""][1]["Content-Type"] == "text/html; charset=utf-8"
        assert stream.started.session_id.encode() in answers["api/sessions"][2]


async def test_files_that_have_not_changed_are_not_sent_again():
    async with paged() as r, look(r) as page:
        _, headers, body = await page.get("main.js")
        status, _, again = await page.get("main.js", headers={"If-None-Match": headers["ETag"]})
        assert body and (status, again) == (304, b"")


def test_the_page_brings_all_that_it_loads_and_nothing_from_elsewhere():
    names = {file.name for file in STATIC.iterdir()}
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file.name
        assert "innerHTML" not in text and "style=" not in text and "onclick" not in text, file.name
        asked = re.findall(r'(?:from "\./|href="|src=")([\w.-]+\.\w+)"', text)
        assert set(asked) <= names, file.name


@pytest.mark.parametrize(
    "path", ["../config.py", "..%2fconfig.py", "static/main.js", "%2e%2e/site.py", "main.js/"]
)
async def test_only_the_page_s_files_can_be_had(path):
    async with paged() as r:
        head = await raw(r, f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")


async def raw(r, text: str) -> bytes:
    """What comes back for these bytes, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", r.server.settings.web_port)
    writer.write(text.encode())
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_the_page_only_tells(method):
    async with paged() as r:
        for path in ("/", "/api/sessions"):
            answer = await raw(r, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 405 ") and b"Content-Security-Policy" in answer, answer


@pytest.mark.parametrize(
    "garbage", ["\x16\x03\x01 no http\r\n\r\n", "GET / HTTP/9\r\n\r\n", "GET /\x00 HTTP/1.1\r\n\r\n"]
)
async def test_garbage_is_refused_without_a_trace(garbage, caplog):
    async with paged() as r, look(r) as page:
        answer = await raw(r, garbage)
        assert answer.startswith(b"HTTP/1.") and b"400" in answer[:14] and b"Traceback" not in answer
        assert (await page.get(""))[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_another_site_s_name_does_not_lead_here():
    """A page of an attacker's whose name is made to mean this machine could read all otherwise."""
    async with paged(web_names=("Cameras.example",)) as r, look(r) as page:
        for host, expected in (
            ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("192.168.1.9:8080", 200),
            ("cameras.example", 200), ("attacker.example", 403), ("attacker.example:80", 403), ("", 403),
            ("localhost.attacker.example", 403), ("127.0.0.1.attacker.example", 403),
        ):  # fmt: skip
            for path in ("", "api/sessions"):
                status, _, body = await page.get(path, headers={"Host": host})
                assert status == expected, (host, path)
        assert b"web_names" in body


async def test_the_page_tells_what_list_sessions_tells():
    async with paged() as r, look(r) as page:
        r.engine.whole_interval = 4
        streams = [await r.open(camera_id=name, weight=2.0) for name in ("front", "rear", "")]
        for number in range(8):
            await streams[0].frame(number, jpeg(1, 80, 40))
            await streams[0].result()
        told = {row["session"]: row for row in await page.sessions()}
        listed = (await r.stub.ListSessions(pb.ListSessionsRequest())).sessions
        assert list(told) == [session.session_id for session in listed]
        for session in listed:
            row = told[session.session_id]
            assert (row["camera"], row["model"], row["state"]) == (session.camera_id, session.model, "active")
            for name in ("frames_received", "frames_ok", "frames_dropped", "frames_invalid", "weight"):
                assert row[name] == getattr(session, name), name
        row, session = told[listed[0].session_id], listed[0]
        assert row["frame_size"] == [80, 40] and row["frames_ok"] == 8 and row["fps"] > 0
        assert row["latency_p99"] == session.latency_p99_us / 1e6 > 0
        assert (row["block_drop_rate"], row["block_budget"]) == (
            session.block_drop_rate,
            session.block_budget,
        )
        assert row["agreement"] == session.agreement == 0.75
        assert told[listed[1].session_id]["agreement"] is None


async def test_the_server_and_its_models():
    async with paged(max_sessions=3) as r, look(r) as page:
        facts = await page.json("api/server")
        assert (facts["device"], facts["precision"], facts["max_sessions"]) == ("fake", "fp32", 3)
        assert [(model["name"], model["is_default"]) for model in facts["models"]] == [
            ("fake", True),
            ("other", False),
        ]
        assert facts["models"][0]["classes"][2] == {"name": "class2", "color": [40, 215, 14]}
        live = await page.live()
        assert live["load"][0]["level"] == "normal" and live["draining"] is False


async def test_what_is_asked_wrongly_is_said():
    async with paged() as r, look(r) as page:
        stream = await r.open()
        path = f"api/sessions/{stream.started.session_id}/picture"
        for query, word in (
            ({"viewer": "x"}, "viewer"), ({"viewer": "A" * 10}, "viewer"),
            ({"after": "x"}, "after"), ({"after": "9" * 30}, "after"),
        ):  # fmt: skip
            status, _, body = await page.get(path, **query)
            assert status == 400 and word in body.decode() and "allowed" in body.decode()


async def test_a_viewer_s_questions_are_answered_once_a_second():
    clock = ManualClock()
    async with paged(clock=clock, **PATIENT) as r, look(r) as page:
        await page.live()
        second = asyncio.create_task(page.live())
        await clock.elapse(1.0)
        assert (await second)["up_seconds"] == pytest.approx(1.0)


async def test_pages_above_the_limit_are_told_so():
    async with paged(web_viewers=2) as r, look(r) as page:
        for viewer in ("viewer-1", "viewer-2"):
            assert (await page.get("api/sessions", viewer=viewer))[0] == 200
        status, headers, body = await page.get("api/sessions", viewer="viewer-3")
        assert status == 429 and b"close a page" in body and int(headers["Retry-After"]) >= 1


async def test_floods_of_questions_are_refused():
    async with paged(max_calls_per_second=2) as r, look(r) as page:
        answers = [await page.get("api/server") for _ in range(8)]
        assert {status for status, _, _ in answers} == {200, 429}
        assert r.metric("tilestream_calls_refused_total", reason="calls") >= 1


async def test_silent_connections_are_closed_and_few():
    clock = ManualClock()
    async with paged(clock=clock, web_viewers=1, **PATIENT) as r, look(r) as page:
        port = r.server.settings.web_port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        silent[0][1].write(b"GET / HTTP/1.1\r\nHost: local")  # and no more of it
        await until(lambda: len(r.server._page._connections) == 6)
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        assert await closed(reader), "there are as many as there may be"
        clock.advance(PATIENCE)
        for reader, _ in silent:
            assert await closed(reader)
        assert (await page.get(""))[0] == 200


async def closed(reader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_the_page_ends_with_the_server():
    async with paged() as r, look(r) as page:
        stream = await r.open()
        asking = asyncio.create_task(page.get(f"api/sessions/{stream.started.session_id}/picture"))
        await until(lambda: r.server._page._watches)
        await stream.done()
        await r.server.stop(grace=5.0)
        assert (await asking)[0] == 404
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", r.server.settings.web_port)


async def test_a_port_that_is_taken_is_an_error_at_the_start():
    async with paged() as r:
        taken = r.server.settings.web_port
        server = Server(Settings(port=free_port(), web_port=taken), lambda: r.engine)
        with pytest.raises(StartError, match=f"cannot serve the page on 127.0.0.1:{taken}"):
            await server.start()
