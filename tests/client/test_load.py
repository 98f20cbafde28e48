"""The load generator: frames by the clock, an account that adds up."""

from __future__ import annotations

import asyncio
import json

import grpc
import numpy as np
import pytest
from fake_answers import Status
from typer.testing import CliRunner

from tilestream_client import SourceError, jpeg
from tilestream_client.cli import app
from tilestream_client.load import LoadPlan, LoadReport, pattern_clip, run_load, video_clip
from tilestream_client.v1 import segmentation_pb2 as pb

CLIP = [jpeg.encode(np.full((16, 16, 3), 40 * index, np.uint8)) for index in range(4)]
CODE = grpc.StatusCode


def check(report: LoadReport) -> dict:
    """What must hold however fast or slow anything is."""
    summary, tally = report.summary(), report.tally
    assert report.due == tally.sent + report.skipped
    assert tally.sent == tally.ok + tally.dropped + tally.invalid + tally.unanswered
    assert 0 <= report.late <= tally.ok == len(tally.latencies)
    assert summary["frames_unanswered"] >= 0 and report.skipped >= 0
    return summary


async def test_a_server_that_keeps_up(serve):
    server = serve(fate=lambda frame_id: "dropped" if frame_id == 1 else "ok")
    plan = LoadPlan(clip=CLIP, sessions=3, fps=20, seconds=1.0, late_after=60.0, patience=60)
    report = await run_load(server.target, plan)
    summary = check(report)
    # The first of each session is due at once, the last before the second is over.
    assert 57 <= summary["frames_due"] <= 60 and summary["frames_unanswered"] == 0 == summary["frames_late"]
    assert summary["frames_dropped"] > 0 and summary["sessions_failed"] == 0
    assert {record.config.camera_id for record in server.records} == {"load-0", "load-1", "load-2"}
    assert all(frame.capture_time_us for frame in server.records[0].frames)


async def test_a_part_of_a_load_has_cameras_and_places_of_its_own(serve):
    """Where several processes load one server."""
    server = serve()
    plan = LoadPlan(
        clip=CLIP, sessions=2, fps=20, seconds=0.3, first_camera=5, stagger=1, mask_encoding="rle"
    )
    check(await run_load(server.target, plan))
    records = {record.config.camera_id: record for record in server.records}
    assert set(records) == {"load-5", "load-6"}
    # Forth and back over four frames, a round takes six.
    assert records["load-5"].frames[0].data == CLIP[1] and records["load-6"].frames[0].data == CLIP[0]
    assert {record.config.mask_encoding for record in server.records} == {pb.MASK_ENCODING_RLE}


async def test_a_server_that_is_too_slow_makes_frames_late_and_skipped(serve):
    """Open loop: frames stay due while the server sleeps, and their waiting counts."""
    server = serve(delay=0.1)
    plan = LoadPlan(clip=CLIP, fps=100, seconds=1.0, policy="wait", backlog=3, late_after=0.05, patience=60)
    report = await run_load(server.target, plan)
    summary = check(report)
    assert 99 <= summary["frames_due"] <= 100 and summary["frames_skipped"] > 60
    assert summary["frames_ok"] == summary["frames_sent"] < 30 and summary["frames_unanswered"] == 0
    # Two under way, one read ahead: a frame waits for three others, 0.1 s each.
    assert summary["latency_ms"]["p99"] > 250 and summary["frames_late"] > 0


async def test_a_server_that_stalls_leaves_frames_unanswered(serve):
    server = serve(hold=10**6, config={"frames_in_flight": 4})
    plan = LoadPlan(clip=CLIP, fps=50, seconds=0.5, policy="wait", patience=0.2)
    summary = check(await run_load(server.target, plan))
    assert summary["frames_ok"] == 0 and 0 <= summary["frames_unanswered"] <= 4
    assert summary["latency_ms"] == {"p50": None, "p90": None, "p99": None}


async def test_sessions_that_fail_are_noted(serve):
    server = serve(refuse=Status(CODE.RESOURCE_EXHAUSTED, retry_after=1))
    report = await run_load(server.target, LoadPlan(clip=CLIP, sessions=2, fps=10, seconds=0.5))
    summary = check(report)
    assert summary["sessions_failed"] == 2 and "try again in 1 s" in summary["errors"][0]
    server = serve(abort_after=(2, Status(CODE.INTERNAL)))
    summary = check(
        await run_load(server.target, LoadPlan(clip=CLIP, fps=50, seconds=0.5, reconnect_timeout=0))
    )
    assert summary["sessions_failed"] == 1 and summary["frames_ok"] == 2


async def test_cameras_come_back(serve):
    server = serve(abort_after=(2, Status(CODE.INTERNAL)))
    summary = check(await run_load(server.target, LoadPlan(clip=CLIP, fps=20, seconds=1.0)))
    assert summary["reconnects"] == len(server.records) - 1 >= 1 and not summary["sessions_failed"]
    assert summary["frames_ok"] > 2 and summary["frames_unanswered"] == 0


async def test_what_is_sent_while_warming_up_is_not_counted(serve):
    plan = LoadPlan(clip=CLIP, sessions=2, fps=20, seconds=1.0, warmup=0.5)
    server = serve()
    summary = check(await run_load(server.target, plan))
    assert summary["frames_due"] == 20 and 0.3 < summary["seconds"] < 0.9
    assert summary["frames_sent"] <= 20 < sum(len(record.frames) for record in server.records)
    assert 0.9 < summary["fairness_jain"] <= 1.0


def test_fairness():
    assert LoadReport(4, served=[0.5, 0.5, 0.5, 0.5]).fairness == 1.0
    assert LoadReport(4, served=[0.9, 0, 0, 0]).fairness == 0.25
    assert LoadReport(0).fairness == 1.0


async def test_it_can_be_stopped(serve):
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, stop.set)
    plan = LoadPlan(clip=CLIP, fps=20, seconds=3600, patience=60)
    report = await run_load(serve().target, plan, stop=stop)
    summary = check(report)
    assert summary["frames_due"] < 1000 and summary["frames_unanswered"] == 0


def test_clips(tmp_path):
    clip = pattern_clip((80, 60), frames=5)
    shapes = {jpeg.decode(data).shape for data in clip}
    assert shapes == {(60, 80, 3)} and len(set(clip)) == 5
    for index, data in enumerate(clip):
        (tmp_path / f"{index}.jpg").write_bytes(data)
    assert video_clip(tmp_path, frames=3) == clip[:3]
    assert jpeg.decode(video_clip(tmp_path, (40, 20))[0]).shape == (20, 40, 3)
    with pytest.raises(SourceError):
        video_clip(tmp_path / "missing.mp4")


def test_the_command(serve, tmp_path):
    path = tmp_path / "load.json"
    arguments = [
        "load",
        "--sessions",
        "2",
        "--fps",
        "10",
        "--seconds",
        "0.5",
        "--size",
        "64x48",
        "--json",
        str(path),
    ]
    result = CliRunner().invoke(app, [*arguments, "--server", serve().target])
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    asked = {
        "frames_sent",
        "frames_ok",
        "frames_dropped",
        "frames_invalid",
        "frames_unanswered",
        "fps",
        "latency_ms",
    }
    assert asked <= set(report) and set(report["latency_ms"]) == {"p50", "p90", "p99"}
    assert report["frames_due"] == 10 == report["frames_ok"] + report["frames_skipped"]
    assert "answered with a mask" in result.output
    refused = serve(refuse=Status(CODE.UNAVAILABLE, retry_after=1)).target
    result = CliRunner().invoke(app, [*arguments, "--server", refused])
    assert result.exit_code == 1 and "try again" in result.output and "Traceback" not in result.output
