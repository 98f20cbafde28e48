import io
import json
import logging

import pytest

from tilestream.messages import FrameStats
from tilestream.telemetry.logs import setup_logging
from tilestream.telemetry.metrics import Metrics


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
    assert lines[-1] == "ValueError: why"
    assert not any("hidden" in line for line in lines)


def test_metrics_count_and_rate():
    now = [100.0]
    metrics = Metrics(lambda: now[0])
    value = metrics.registry.get_sample_value
    metrics.session_opened()
    stats = FrameStats(False, 25, 100)
    for _ in range(20):
        now[0] += 0.1
        metrics.frame_answered("ok", "", 0.03, {"decode": 0.002, "encode": 0.001}, stats)
    metrics.frame_answered("dropped", "queue_full", 0.5, {"decode": 0.0}, None)
    metrics.step_done(4)
    assert value("tilestream_fps") == pytest.approx(10.0)
    assert value("tilestream_frames_total", {"status": "ok", "reason": ""}) == 20
    assert value("tilestream_frames_total", {"status": "dropped", "reason": "queue_full"}) == 1
    assert value("tilestream_block_units_total", {"result": "computed"}) == 500
    assert value("tilestream_block_units_total", {"result": "dropped"}) == 1500
    assert value("tilestream_frame_latency_seconds_count") == 20
    assert value("tilestream_stage_seconds_count", {"stage": "decode"}) == 20
    assert value("tilestream_step_frames_sum") == 4
    assert value("tilestream_sessions") == 1
    metrics.session_closed("finished")
    metrics.session_refused()
    assert value("tilestream_sessions") == 0
    assert value("tilestream_sessions_closed_total", {"cause": "finished"}) == 1
    assert value("tilestream_sessions_refused_total") == 1
    now[0] += 60
    assert value("tilestream_fps") == 0


def test_clients_cannot_forge_log_lines():
    stream = io.StringIO()
    setup_logging("console", "info", stream)
    logging.getLogger("x").info("opened", extra={"camera": "a\n2026 ERROR forged"})
    assert stream.getvalue().count("\n") == 1
