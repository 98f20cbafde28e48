"""Load generators in processes of their own, which stay from one load to the next."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tilestream_client.load import LoadPlan, LoadReport, run_load

START_SECONDS = 60.0  # that a generator may take until it can send
PATIENCE = 2.0  # seconds that a generator waits for the last answers
RECONNECT_SECONDS = 2.0
GRACE = 4.0  # seconds after which a generator that has nothing to say is replaced
PLACES = 7  # frames of the clip between two cameras


@dataclass(frozen=True, slots=True)
class Load:
    """Cameras for one server. ``seconds`` are counted, ``warmup`` before them are not; rest as LoadPlan."""

    cameras: int
    fps: float
    warmup: float
    seconds: float
    frames_in_flight: int
    mask: str = "rle"

    def plan(self, clip: Sequence[bytes], first: int, cameras: int) -> LoadPlan:
        """Of the process that has these cameras."""
        return LoadPlan(
            clip=clip,
            sessions=cameras,
            fps=self.fps,
            seconds=self.warmup + self.seconds,
            warmup=self.warmup,
            patience=PATIENCE,
            reconnect_timeout=RECONNECT_SECONDS,
            first_camera=first,
            stagger=PLACES,
            mask_encoding=self.mask,
            frames_in_flight=self.frames_in_flight,
        )


class Generators:
    """``count`` processes that share a load's cameras. To be closed."""

    def __init__(self, clip: Sequence[bytes], count: int) -> None:
        self._clip = clip
        self._all = [_Generator(clip) for _ in range(count)]
        self._busy: list[_Generator] = []
        self._until = 0.0

    def start(self, target: str, load: Load) -> None:
        """Send a load's frames from now on, that is once all processes are ready."""
        for generator in self._all:
            generator.wait_until_ready()
        counts = [len(range(n, load.cameras, len(self._all))) for n in range(len(self._all))]
        self._busy = [generator for generator, cameras in zip(self._all, counts, strict=True) if cameras]
        self._until = time.monotonic() + load.warmup + load.seconds + PATIENCE + GRACE
        first = 0
        for generator, cameras in zip(self._busy, counts, strict=False):
            generator.start(target, load, first, cameras)
            first += cameras

    def collect(self) -> tuple[LoadReport, float]:
        """What came of it, all together, and the most of a core's time that a generator used.

        Waits for a limited time; a process that does not report is replaced, and the report's errors say so.
        """
        report, busiest = LoadReport(0), 0.0
        for generator in self._busy:
            answer = generator.answer(max(0.0, self._until - time.monotonic()))
            if isinstance(answer, str):
                report.errors.append(answer)
                generator.close()
                self._all[self._all.index(generator)] = _Generator(self._clip)
                continue
            part, share = answer
            _merge(report, part)
            busiest = max(busiest, share)
        return report, busiest

    def close(self) -> None:
        """End the processes."""
        for generator in self._all:
            generator.close()


class _Generator:
    """One process."""

    def __init__(self, clip: Sequence[bytes]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, end = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(end, list(clip)), daemon=True)
        self._process.start()
        self._ready = False
        end.close()

    def wait_until_ready(self) -> None:
        """For a limited time; one that never is gives no answer later."""
        with contextlib.suppress(EOFError, OSError):
            if not self._ready and self._pipe.poll(START_SECONDS):
                self._ready = self._pipe.recv()

    def start(self, target: str, load: Load, first: int, cameras: int) -> None:
        with contextlib.suppress(OSError):  # it is dead: so says its answer
            self._pipe.send((target, load, first, cameras))

    def answer(self, seconds: float) -> tuple[LoadReport, float] | str:
        """Report and share of a core, or what went wrong."""
        try:
            if self._pipe.poll(seconds):
                answer: tuple[LoadReport, float] | str = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            return "a load generator died"
        return "a load generator did not report in time"

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _work(pipe: Connection, clip: list[bytes]) -> None:
    """Run the loads that come, until nobody is left who would send one."""
    pipe.send(True)
    with asyncio.Runner() as runner:  # one event loop for all: gRPC does not take leave of one that is closed
        while True:
            try:
                target, load, first, cameras = pipe.recv()
            except EOFError:
                return
            used, begin = time.process_time(), time.monotonic()
            try:
                report = runner.run(run_load(target, load.plan(clip, first, cameras)))
            except Exception as error:
                pipe.send(f"a load generator failed: {error!r}")
                continue
            pipe.send((report, (time.process_time() - used) / (time.monotonic() - begin)))


def _merge(whole: LoadReport, part: LoadReport) -> None:
    """Add the report of some more cameras, which sent at the same time."""
    whole.sessions += part.sessions
    whole.seconds = max(whole.seconds, part.seconds)
    whole.due += part.due
    whole.skipped += part.skipped
    whole.late += part.late
    whole.reconnects += part.reconnects
    whole.served += part.served
    whole.tally.merge(part.tally)
    whole.errors += part.errors


def facts_of(report: LoadReport, load: Load) -> dict[str, Any]:
    """What a table tells of a load; rates per second, times in milliseconds."""
    summary = report.summary()
    seconds = max(report.seconds, load.seconds)  # where all is answered, a report ends with its last frame
    return {
        "fps": round(report.tally.ok / seconds, 2),
        "due_fps": round(report.due / seconds, 2),
        "due": report.due,
        "ok": report.tally.ok,
        "dropped": report.tally.dropped,
        "skipped": report.skipped,
        "invalid": report.tally.invalid,
        "unanswered": report.tally.unanswered,
        "sessions_failed": len(report.errors),
        "latency_ms": summary["latency_ms"],
        "server_ms": summary["server_ms"],
        "block_drop_rate": summary["block_drop_rate"],
        "agreement": summary["agreement"],
        "fairness_jain": summary["fairness_jain"],
        "seconds": round(seconds, 3),
        "errors": summary["errors"],
    }
