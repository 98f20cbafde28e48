"""An engine without a network: labels follow from pixel values, so that order and identity can be checked."""

import threading
import time
from dataclasses import replace

import numpy as np

from tilestream.label_runs import LabelRuns
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import decode_picture
from tilestream.messages import (
    BinAccount,
    Codec,
    EngineError,
    EngineInfo,
    EngineReport,
    Frame,
    FrameStats,
    Grant,
    ModelInfo,
    Outcome,
    SessionSpec,
    StepPlan,
)

STEP = 20  # a pixel value of STEP * label gives that label
CLASSES = 12


def fake_model(name: str = "fake", looks_ahead: bool = False) -> ModelInfo:
    palette = tuple((20 * i, 255 - 20 * i, 7 * i) for i in range(CLASSES))
    classes = tuple(f"class{i}" for i in range(CLASSES))
    return ModelInfo(name, "labels are gray values", classes, palette, 1, 0, looks_ahead=looks_ahead)


class FakeEngine:
    """``gate``: steps wait for it where it is given. ``fail``: called with the plan before each step.

    ``runs``: its labels are runs.
    """

    def __init__(
        self,
        gate: threading.Event | None = None,
        names: tuple[str, ...] = ("fake", "other"),
        takes: tuple[Codec, ...] = (),
        runs: bool = False,
    ):
        self.gate = gate
        self.runs = runs
        self.names = names
        self.takes = takes
        self.fail = lambda plan: None
        self.open_sessions: dict[str, SessionSpec] = {}
        self.plans: list[list[tuple[str, int]]] = []
        self.threads: set[int] = set()
        self.refuse_open = False
        self.whole_interval = 1  # of the frames between, a quarter of the units is computed
        self.later = 0  # so many frames of a session after a frame its labels come
        self._held: dict[str, list[Outcome]] = {}
        self.seconds = 0.0  # that a step takes per frame whose budget is 1; units follow the budget
        self.sleep = time.sleep  # how it takes them
        self.closed = False
        self.health_checks = 0
        self.stepping = threading.Event()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            tuple(fake_model(name, self.later > 0) for name in self.names), "fake", "fp32", self.takes
        )

    def open(self, spec: SessionSpec) -> None:
        self.threads.add(threading.get_ident())
        if self.refuse_open:
            raise EngineError("no memory for another session")
        self.open_sessions[spec.session_id] = spec

    def step(self, plan: StepPlan) -> list[Outcome]:
        self.threads.add(threading.get_ident())
        self.plans.append([(frame.session_id, frame.frame_id) for frame, _ in plan.frames])
        self.stepping.set()
        if self.gate is not None:
            self.gate.wait(300)
        self.fail(plan)
        if self.seconds:
            self.sleep(sum(0.05 + 0.95 * grant.budget for _, grant in plan.frames) * self.seconds)
        outcomes = [self._outcome(frame, grant) for frame, grant in plan.frames]
        return self._hold(outcomes) + self._due(plan) if self.later else outcomes

    def _due(self, plan: StepPlan) -> list[Outcome]:
        found = []
        for session_id, frame_id in plan.due:
            held = self._held.get(session_id, [])
            found += [outcome for outcome in held if outcome.frame_id <= frame_id]
            self._held[session_id] = [outcome for outcome in held if outcome.frame_id > frame_id]
        return found

    def _hold(self, outcomes: list[Outcome]) -> list[Outcome]:
        older = []
        for outcome in outcomes:
            held = self._held.setdefault(outcome.session_id, [])
            held.append(outcome)
            if len(held) > self.later:
                older.append(held.pop(0))
        return [replace(outcome, labels=None, confidence=None, bins=None) for outcome in outcomes] + older

    def _outcome(self, frame: Frame, grant: Grant) -> Outcome:
        spec, picture = self.open_sessions[frame.session_id], frame.picture
        assert picture.pixels is not None or picture.codec in self.takes
        if picture.pixels is None:
            try:
                picture = decode_picture(picture)
            except BadFrame as bad:
                return Outcome(frame.session_id, frame.frame_id, failure=bad.failure)
        labels = np.clip(np.rint(picture.pixels[..., 0] / STEP), 0, CLASSES - 1).astype(np.uint8)
        grid = (-(-labels.shape[0] // 64), -(-labels.shape[1] // 64))
        bins = BinAccount(
            bin_size=64,
            units_computed=np.full(grid, 8, np.uint16),
            distortion=np.zeros(grid, np.float32),
            age=np.zeros(grid, np.uint16),
            width=labels.shape[1],
            height=labels.shape[0],
            units_per_bin=8,
        )
        return Outcome(
            frame.session_id,
            frame.frame_id,
            LabelRuns.of(labels) if self.runs else labels,
            self._stats(frame, grant, 8 * grid[0] * grid[1]),
            confidence=np.full_like(labels, 200) if spec.confidence else None,
            bins=bins if spec.bins or frame.bins else None,
        )

    def _stats(self, frame: Frame, grant: Grant, units: int) -> FrameStats:
        whole = frame.frame_id % self.whole_interval == 0
        computed = units if whole else units // 4
        if self.seconds:
            whole, computed = grant.budget >= 1.0, round(units * grant.budget)
        return FrameStats(
            whole,
            computed,
            units,
            budget=grant.budget if self.seconds else 1.0,
            stage_seconds={"backbone": 0.001},
            units_by_stride={8: (computed, units)},
            agreement=None if whole else 0.75,
            agreement_pixels=0 if whole else 1000,
        )

    def report(self) -> EngineReport:
        return EngineReport("fake", tiles=4, store_bytes=1000, store_limit_bytes=4000)

    def release(self, session_id: str) -> None:
        self.threads.add(threading.get_ident())
        self.open_sessions.pop(session_id, None)
        self._held.pop(session_id, None)

    def check_health(self) -> None:
        self.health_checks += 1

    def close(self) -> None:
        self.closed = True
