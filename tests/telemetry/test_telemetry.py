import io
import json
import logging

import pytest

from tilestream.telemetry.logs import RateLimit, setup_logging


@pytest.fixture(autouse=True)
def keep_root_logger():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def logged(form: str, level: str = "info") -> list[str]:
    stream = io.StringIO()
    setup_logging(form, level, stream)
    log = logging.getLogger("tilestream.x")
    log.debug("hidden")
    log.info("session %s", "opened", extra={"session": "s-1"})
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    return stream.getvalue().splitlines()


def test_json_lines():
    first, second = (json.loads(line) for line in logged("json"))
    assert (first["level"], first["message"], first["session"]) == ("info", "session opened", "s-1")
    assert first["time"].endswith("Z") and first["logger"] == "tilestream.x"
    assert "ValueError: why" in second["exception"]


def test_console_lines():
    lines = logged("console")
    assert lines[0].endswith("INFO    session opened session=s-1")
    assert lines[-1] == "  ValueError: why"  # set in: no line of it can look like one of ours
    assert not any("hidden" in line for line in lines)


def test_clients_cannot_forge_log_lines():
    stream = io.StringIO()
    setup_logging("console", "info", stream)
    logging.getLogger("x").info("opened", extra={"camera": "a\n2026 ERROR forged"})
    assert stream.getvalue().count("\n") == 1


def test_a_flood_of_one_kind_is_counted_and_not_written():
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])

    def passes(message, *values):
        record = logging.LogRecord("x", logging.INFO, "", 0, message, values, None)
        return limit.filter(record), getattr(record, "suppressed", None)

    assert [passes("flood %d", i) for i in range(5)] == [(True, None)] * 2 + [(False, None)] * 3
    assert passes("another") == (True, None)
    now[0] = 10.0
    assert passes("flood %d", 9) == (True, 3)
    assert passes("flood %d", 9) == (True, None)
    for i in range(5000):
        passes(f"every line is another {i}")
    assert len(limit._kinds) <= 1000
