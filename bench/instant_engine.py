"""An engine that takes JPEGs and computes nothing: what a server does besides can be seen alone."""

from __future__ import annotations

import time
from dataclasses import replace

from tilestream.label_runs import LabelRuns
from tilestream.messages import (
    STAGES,
    Codec,
    EngineInfo,
    EngineReport,
    Frame,
    FrameStats,
    ModelInfo,
    Outcome,
    SessionSpec,
    StepPlan,
)
from tilestream_street import SyntheticStreet

LABELS = 12
MASKS, SEED, APART = 8, 1000, 15  # drawn frames that are a second apart
MODEL = ModelInfo("instant", "", tuple(f"class{n}" for n in range(LABELS)), ((9, 9, 9),) * LABELS, 1, 0)
_STATS = FrameStats(
    False,
    1200,
    4800,
    mean_distortion=3.5,
    budget=0.25,
    macs=4_000_000_000,
    stage_seconds=dict.fromkeys(STAGES, 0.0005),
    units_by_stride=dict.fromkeys((4, 8, 16, 32), (300, 1200)),
    agreement=0.98,
    agreement_pixels=200_000,
    agreement_age=2.0,
)


def street(width: int, height: int) -> SyntheticStreet:
    """Whose labels the engine answers with."""
    return SyntheticStreet(SEED, width, height)


class InstantEngine:
    """Implements ``messages.Engine``; answers with exact labels of a street, as runs.

    ``step_seconds``: that a step sleeps, so that frames come together as they do where a device computes.
    """

    def __init__(self, width: int, height: int, step_seconds: float) -> None:
        drawn = street(width, height)
        self._masks = [LabelRuns.of(drawn.frame(APART * index).labels) for index in range(MASKS)]
        self._step_seconds = step_seconds

    @property
    def info(self) -> EngineInfo:
        return EngineInfo((MODEL,), "none", "fp32", (Codec.JPEG,))

    def open(self, spec: SessionSpec) -> None:
        return

    def step(self, plan: StepPlan) -> list[Outcome]:
        time.sleep(self._step_seconds)
        return [self._outcome(frame) for frame, _ in plan.frames]

    def _outcome(self, frame: Frame) -> Outcome:
        labels = self._masks[frame.frame_id % len(self._masks)]
        stats = replace(_STATS, whole=frame.frame_id % 4 == 0)
        return Outcome(frame.session_id, frame.frame_id, labels, stats)

    def report(self) -> EngineReport:
        return EngineReport("none", tiles=64, store_bytes=1000, store_limit_bytes=4000)

    def release(self, session_id: str) -> None:
        return

    def check_health(self) -> None:
        return

    def close(self) -> None:
        return
