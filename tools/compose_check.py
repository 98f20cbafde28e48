"""Looks at the compose stack from outside: up, stream, compare with Prometheus, overload, kill, demo, down.

Run it as ``python -m tools.compose_check``. Needs a Docker engine (``DOCKER_HOST``) with Compose. Where
there is none but dockerd is installed and we are root, one is started, and taken away again. Base images have
to be there or to be pullable.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker

from tilestream_client import Client, Frame, Result, TilestreamError
from tilestream_client.load import LoadPlan, pattern_clip, run_load
from tilestream_client.sources import open_source, paced
from tilestream_street import write_clip
from tools import prometheus
from tools.compose_stack import (
    BASE,
    PROMETHEUS,
    SERVER,
    build,
    compose,
    container,
    megabytes,
    require,
    take_down,
)
from tools.docker_engine import CannotCheckError, engine
from tools.prometheus import PATIENCE, wait_for

RATE, SECONDS, WINDOW = 4.0, 45, 30
TOO_FAST, TOO_MANY = 30.0, 4  # frames/s and cameras that no server of ours keeps up with
KILL_AFTER, FRAMES = 20, 100
TOLERANCE = 0.05
EDGE = 1 / WINDOW  # frames/s: one frame more or less in the window, which is much where a machine is slow
WAY = 0.01  # seconds that client and server may be apart: loopback, and both share the cores
COUNTERS = (
    *(f"frames_{name}_total" for name in ("received", "completed", "dropped", "invalid", "unanswered")),
    *(f"frame_latency_seconds_{name}" for name in ("sum", "count")),
    *(f"block_units_{name}_total" for name in ("computed", "dropped")),
)


def main() -> int:
    """Run the check; the exit status is 77 where it cannot be run."""
    try:
        with engine() as client:
            check(client)
    except CannotCheckError as error:
        print(f"compose-check: SKIPPED, NOTHING WAS CHECKED: {error}", file=sys.stderr)
        return 77
    return 0


def check(client: docker.DockerClient) -> None:
    """Raises AssertionError for what is wrong."""
    require(client)
    for target in ("cpu", "demo"):
        build(target)
    images = ("tilestream:cpu", "tilestream:demo", BASE)
    say(f"images: {', '.join(f'{image} {megabytes(client, image):.0f} MB' for image in images)}")
    try:
        up()
        hardened(container(client))
        steady()
        too_much()
        kill_under_load(client)
        demo(client)
    finally:
        take_down(client)
    say("passed")


def say(line: str) -> None:
    """One line of the log."""
    print(f"compose-check: {line}", flush=True)


def up() -> None:
    """Start the stack, and stream to it as soon as it takes frames."""
    begin = time.monotonic()
    picture = pattern_clip((320, 240), 1)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(compose, "up", "-d", "--no-build", "--wait", "server", "prometheus")
        wait_for(lambda: _answers(picture), "the first mask is here", pause=0.1)
        mask = time.monotonic() - begin
        starting.result(PATIENCE)
    say(f"up: first mask after {mask:.1f} s, all healthy after {time.monotonic() - begin:.1f} s")


def _answers(picture: list[bytes]) -> bool:
    try:
        with Client(SERVER) as client:
            return all(result.ok for result in client.stream(picture, reconnect_timeout=0))
    except TilestreamError:
        return False


@contextlib.contextmanager
def street(frames: int) -> Iterator[Iterator[Frame]]:
    """The synthetic street at a steady rate."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "street.mp4"
        write_clip(clip, seed=12, frames=frames, width=320, height=240, fps=15.0)
        yield paced(open_source(str(clip)), RATE)


def steady() -> None:
    """What Prometheus says of a stream that the server keeps up with, against what its client saw."""
    before = counters()
    with street(int(SECONDS * RATE)) as frames, Client(SERVER) as client:
        answered = [(time.monotonic(), result) for result in client.stream(frames)]
    ended, results = time.time(), [result for _, result in answered]
    assert all(result.ok for result in results), "frames were not answered"
    times = [at for at, _ in answered if at > answered[-1][0] - WINDOW]
    speed = (len(times) - 1) / (times[-1] - times[0])
    rate = ask(f"sum(rate(tilestream_frames_completed_total[{WINDOW}s]))", ended)
    near("frames/s", rate, speed, slack=EDGE)
    told = ask(f"sum(avg_over_time(tilestream_fps[{WINDOW}s]))", ended)
    near("frames/s, tilestream_fps", told, speed, slack=EDGE)
    now = counted(before, len(results))
    assert now["frames_completed_total"] == len(results), now
    latency = now["frame_latency_seconds_sum"] / now["frame_latency_seconds_count"]
    near("latency, s: server's, as the results have it", latency, mean([r.times.total for r in results]))
    seen = mean([r.latency for r in results])
    near("latency, s: from sending to receiving", latency, seen, slack=WAY)
    drop_rate(now, results)


def drop_rate(now: dict[str, float], results: list[Result]) -> None:
    """Block units dropped of all, and that reuse is at work."""
    dropped, computed = (now[f"block_units_{name}_total"] for name in ("dropped", "computed"))
    reuse = [result.reuse for result in results if result.reuse is not None]
    ours = sum(r.units_dropped for r in reuse) / sum(r.units_dropped + r.units_computed for r in reuse)
    assert ours > 0.1, "nothing was reused"
    near("block drop rate", dropped / (dropped + computed), ours)


def too_much() -> None:
    """More frames than can be computed: what the server says it drops is what clients are told."""
    before = counters()
    plan = LoadPlan(clip=pattern_clip((320, 240)), sessions=TOO_MANY, fps=TOO_FAST, seconds=15)
    report = asyncio.run(run_load(SERVER, plan))
    tally = report.tally
    assert not report.errors and tally.dropped, report.summary()
    now = counted(before, tally.sent)
    pairs = {
        "received": tally.sent,
        "completed": tally.ok,
        "dropped": tally.dropped,
        "invalid": tally.invalid,
    }
    found = {name: now[f"frames_{name}_total"] for name in pairs}
    say(f"overload: Prometheus {found}, clients {pairs}")
    assert found == pairs
    near("frames dropped of all", found["dropped"] / found["received"], tally.dropped / tally.sent)


def kill_under_load(client: docker.DockerClient) -> None:
    """Kill the server in the middle of a stream: it comes back, and every frame is answered once."""
    results, before_kill = [], 0
    with street(FRAMES) as frames, Client(SERVER) as ours:
        stream = ours.stream(frames, frames_in_flight=4, reconnect_timeout=PATIENCE)
        for result in stream:
            results.append(result)
            before_kill += stream.reconnects == 0
            if len(results) == KILL_AFTER:
                killed = time.monotonic()
                crash(client, container(client))
            if len(results) == before_kill + 1:
                outage = time.monotonic() - killed
    assert stream.reconnects == 1, f"{stream.reconnects} reconnects"
    assert [result.frame_id for result in results] == list(range(FRAMES)), (
        "frames were lost or answered twice"
    )
    assert all(result.ok for result in results), [r.detail for r in results if not r.ok]
    state = container(client).attrs
    assert state["RestartCount"] == 1, state["State"]
    # The new server counts from 0: it computed what the old one had not answered, and nothing twice.
    expected = FRAMES - before_kill
    wait_for(
        lambda: ask("sum(tilestream_frames_completed_total)") == expected, f"{expected} frames are counted"
    )
    say(
        f"kill: after {before_kill} of {FRAMES} frames; the next mask came {outage:.1f} s later, "
        f"every frame was answered once, {expected} of them by the server that came back"
    )
    wait_for(lambda: container(client).attrs["State"]["Health"]["Status"] == "healthy", "it is healthy")


def crash(client: docker.DockerClient, server: Any) -> None:
    """SIGKILL from the host's side; `docker kill` would count as a stop, after which nothing is restarted."""
    kill = f"import os, signal; os.kill({server.attrs['State']['Pid']}, signal.SIGKILL)"
    client.containers.run(
        "tilestream:cpu", ["-c", kill], entrypoint=["python"], user="root", pid_mode="host", remove=True
    )


def demo(client: docker.DockerClient) -> None:
    """The client of the profile `demo` streams for ever, and needs no PyTorch for it."""
    completed = "sum(tilestream_frames_completed_total)"
    before = ask(completed)
    compose("up", "-d", "--no-build", "demo")
    code, _ = container(client, "demo").exec_run(["python", "-c", "import torch"])
    assert code, "PyTorch is in the demo's image"
    wait_for(lambda: ask(completed) > before, "frames of the demo are counted")
    say(f"demo: {ask(completed) - before:.0f} frames so far")


def counters() -> dict[str, float]:
    """What the server has counted so far, once Prometheus has asked it."""
    prometheus.wait_for_scrape(PROMETHEUS)
    return {name: ask(f"sum(tilestream_{name})") for name in COUNTERS}


def counted(before: dict[str, float], frames: int) -> dict[str, float]:
    """What was counted since then, once Prometheus knows of so many frames and of all their answers."""
    now: dict[str, float] = {}

    def complete() -> bool:
        now.update({name: value - before[name] for name, value in counters().items()})
        ended = ("completed", "dropped", "invalid", "unanswered")
        return now["frames_received_total"] == frames == sum(now[f"frames_{name}_total"] for name in ended)

    try:
        wait_for(complete, f"{frames} frames are counted")
    except AssertionError as error:
        raise AssertionError(f"{error}: {now}") from None
    return now


def mean(values: list[float]) -> float:
    """Of one value at least."""
    return sum(values) / len(values)


def near(what: str, found: float, expected: float, slack: float = 0.0) -> None:
    """Within five percent, and ``slack``."""
    say(f"{what}: Prometheus {found:.4f}, client {expected:.4f} ({found / expected - 1:+.2%})")
    assert abs(found - expected) <= TOLERANCE * expected + slack, what


def ask(expression: str, at: float | None = None) -> float:
    """The value of an expression; 0 where there is none yet."""
    return prometheus.ask(PROMETHEUS, expression, at)


def hardened(server: Any) -> None:
    """No root, nothing writable, no compiler."""
    code, user = server.exec_run(["python", "-c", "import os; print(os.getuid())"])
    assert (code, user) == (0, b"10001\n"), user
    for path in ("/opt/tilestream/x", "/etc/x", "/x"):
        code, _ = server.exec_run(["touch", path])
        assert code, f"{path} can be written"
    code, _ = server.exec_run(["sh", "-c", "command -v cc gcc g++ clang || test -e /opt/tilestream/bin/pip"])
    assert code, "a compiler or pip was left in the image"


if __name__ == "__main__":
    sys.exit(main())
